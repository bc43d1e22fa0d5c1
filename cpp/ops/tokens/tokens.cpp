#include "ops/tokens/tokens.hpp"

#include "core/element.hpp"
#include "core/extent.hpp"
#include "core/registry.hpp"

namespace mambasdk {
namespace tokens {
namespace {

constexpr Declaration kUnfold =
    "unfold2d(x: T[B,C,H,W], kernel_h: int, kernel_w: int, stride_h: int, stride_w: int, "
    "padding_h: int = 0, padding_w: int = 0) "
    "-> (y: T[B,(H+2*padding_h-kernel_h)//stride_h+1,(W+2*padding_w-kernel_w)//stride_w+1,"
    "C*kernel_h*kernel_w])";

UnfoldArgs unfold_args(const CallOf<kUnfold>& c) {
  const Tensor &x = c.tensor<"x">(), &y = c.output<"y">();
  UnfoldArgs a{.batch = c.dim<"B">(),
               .channels = c.dim<"C">(),
               .height = c.dim<"H">(),
               .width = c.dim<"W">(),
               .kernel = {c.integer<"kernel_h">(), c.integer<"kernel_w">()},
               .stride = {c.integer<"stride_h">(), c.integer<"stride_w">()},
               .padding = {c.integer<"padding_h">(), c.integer<"padding_w">()},
               .out_height = y.size(1),
               .out_width = y.size(2),
               .element_bytes = x.dtype.bits / 8,
               .x = x.data,
               .y = y.data};
  for (int d = 0; d < 4; ++d) a.x_stride[d] = x.stride(d);
  return a;
}

void check_unfold(const CallOf<kUnfold>& c) {
  const auto at_least = [&](const char* name, std::int64_t value, std::int64_t least) {
    if (value >= least) return;
    fail(ErrorCode::invalid_argument, c.operation(), ": ", name, " is ", value, ", expected at least ", least);
  };
  at_least("kernel_h", c.integer<"kernel_h">(), 1);
  at_least("kernel_w", c.integer<"kernel_w">(), 1);
  at_least("stride_h", c.integer<"stride_h">(), 1);
  at_least("stride_w", c.integer<"stride_w">(), 1);
  at_least("padding_h", c.integer<"padding_h">(), 0);
  at_least("padding_w", c.integer<"padding_w">(), 0);
  const auto fits = [&](const char* name, std::int64_t kernel, std::int64_t size, std::int64_t padding,
                        const char* what) {
    const std::int64_t extent = (Extent(size) + Extent(2) * padding).value();
    if (kernel <= extent) return;
    fail(ErrorCode::invalid_argument, c.operation(), ": ", name, " is ", kernel, ", expected at most ", extent,
         ", the ", what, " of x with its padding");
  };
  fits("kernel_h", c.integer<"kernel_h">(), c.dim<"H">(), c.integer<"padding_h">(), "height");
  fits("kernel_w", c.integer<"kernel_w">(), c.dim<"W">(), c.integer<"padding_w">(), "width");
}

void reference_unfold(const CallOf<kUnfold>& c) {
  const UnfoldArgs a = unfold_args(c);
  const Tensor &x = c.tensor<"x">(), &y = c.output<"y">();
  std::int64_t to = 0;
  for (std::int64_t b = 0; b < a.batch; ++b)
    for (std::int64_t i = 0; i < a.out_height; ++i)
      for (std::int64_t j = 0; j < a.out_width; ++j)
        for (std::int64_t k = 0; k < a.channels; ++k)
          for (std::int64_t u = 0; u < a.kernel[0]; ++u)
            for (std::int64_t v = 0; v < a.kernel[1]; ++v, ++to) {
              const std::int64_t h = i * a.stride[0] + u - a.padding[0], w = j * a.stride[1] + v - a.padding[1];
              const bool inside = h >= 0 && h < a.height && w >= 0 && w < a.width;
              const std::int64_t from = b * x.stride(0) + k * x.stride(1) + h * x.stride(2) + w * x.stride(3);
              store_element(y.data, y.dtype, to, inside ? load_element(x.data, x.dtype, from) : 0.0);
            }
}

void vector_unfold(const CallOf<kUnfold>& c) {
  MAMBASDK_PICK(unfold2d)(unfold_args(c), c.context().parallel());
}

}  // namespace
}  // namespace tokens

void register_tokens(Registry& registry) {
  using namespace tokens;
  registry.define<kUnfold>({
      .doc = "The window that each output position of a convolution sees: y[b, i, j] holds x[b, c, i stride_h + u - "
             "padding_h, j stride_w + v - padding_w] for all c, u, v, in that order, and 0 outside of the image. With "
             "`linear` and a convolution's weights as (O, C kernel_h kernel_w) it is that convolution, channel-last: a "
             "patch embedding of any stride.",
      .check = check_unfold,
      .reference = reference_unfold,
      .cpu = vector_unfold,
  });
}

}  // namespace mambasdk
