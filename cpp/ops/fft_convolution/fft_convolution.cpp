#include "ops/fft_convolution/fft_convolution.hpp"

#include <algorithm>

#include "core/element.hpp"
#include "core/extent.hpp"
#include "core/registry.hpp"

namespace mambasdk {
namespace fft_convolution {
namespace {

constexpr Declaration kConvolution =
    "fft_convolution(x: T[B,L,D], kernel: f32[K,D], skip: f32[D]?, reverse: bool = false) -> (y: T[B,L,D])";
using Call = CallOf<kConvolution>;

Args args_of(const Call& c) {
  return {.batch = c.dim<"B">(),
          .length = c.dim<"L">(),
          .channels = c.dim<"D">(),
          .taps = std::min(c.dim<"K">(), c.dim<"L">()),
          .type = c.tensor<"x">().dtype,
          .x = strided_view(c.tensor<"x">()),
          .kernel = strided_view(c.tensor<"kernel">()),
          .skip = strided_view(c.optional<"skip">()),
          .reverse = c.flag<"reverse">(),
          .y = c.output<"y">().data};
}

void reference(const Call& c) {
  if (c.output<"y">().numel() == 0) return;
  const Args a = args_of(c);
  const auto x = [&](std::int64_t b, std::int64_t t, std::int64_t d) {
    return load_element(a.x.data, a.type, b * a.x.stride[0] + t * a.x.stride[1] + d * a.x.stride[2]);
  };
  const std::int64_t step = a.reverse ? 1 : -1;
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t t = 0; t < a.length; ++t) {
      const std::int64_t taps = std::min(a.taps, a.reverse ? a.length - t : t + 1);
      for (std::int64_t d = 0; d < a.channels; ++d) {
        double sum = 0.0;
        if (a.skip.data != nullptr) sum = load_element(a.skip.data, dtype::f32, d * a.skip.stride[0]) * x(b, t, d);
        for (std::int64_t k = 0; k < taps; ++k)
          sum += load_element(a.kernel.data, dtype::f32, k * a.kernel.stride[0] + d * a.kernel.stride[1]) *
                 x(b, t + step * k, d);
        store_element(a.y, a.type, (b * a.length + t) * a.channels + d, sum);
      }
    }
  }
}

// More than the kernels take of workspace, in checked arithmetic: their own sums cannot overflow then.
void check_workspace(const Args& a) {
  const Extent points = Extent(4) * (Extent(a.length) + a.taps + kLeastPoints);
  (void)(Extent(sizeof(double)) * 64 * points * 4 * kLanesAtMost);
}

void vector_convolution(const Call& c) {
  if (c.output<"y">().numel() == 0) return;
  const Args a = args_of(c);
  check_workspace(a);
  const bool is_direct = a.taps <= kDirectTaps;
  const auto bytes =
      is_direct ? MAMBASDK_PICK(direct_convolution_workspace_bytes) : MAMBASDK_PICK(fft_convolution_workspace_bytes);
  const auto kernel = is_direct ? MAMBASDK_PICK(direct_convolution) : MAMBASDK_PICK(fft_convolution);
  const auto workspace = c.context().workspace(static_cast<std::size_t>(bytes(a)));
  kernel(a, workspace.get(), c.context().parallel());
}

}  // namespace
}  // namespace fft_convolution

void register_fft_convolution(Registry& registry) {
  using namespace fft_convolution;
  registry.define<kConvolution>({
      .doc = "A long causal convolution of each channel: y[t] = skip x[t] + sum of kernel[k] x[t - k] over k from 0 to "
             "min(t, K - 1); reverse: of kernel[k] x[t + k], the future instead of the past. Kernels of more than 128 "
             "taps take O(L log L) steps by transforms in float32, of the least power of two that is at least L + "
             "min(K, L) - 1; shorter ones are sums of products. For inference: it has no derivative.",
      .reference = reference,
      .cpu = vector_convolution,
  });
}

}  // namespace mambasdk
