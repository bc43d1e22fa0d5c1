// Where the windows of a convolution and of a transposed convolution are, along depth, height and width.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/call.hpp"
#include "ops/packed/windows.hpp"

namespace mambasdk::convolution {

struct Geometry {
  bool transposed = false;
  std::int64_t in[3] = {}, out[3] = {}, kernel[3] = {}, stride[3] = {}, padding[3] = {}, dilation[3] = {};

  // The input that output `o` sees through tap k, -1 where there is none.
  [[nodiscard]] std::int64_t input_of(int dim, std::int64_t o, std::int64_t k) const;
  // The number of a kernel's tap, in the order of the weights.
  [[nodiscard]] std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
};

// Refuses strides and dilations below 1, kernels of nothing, and kernels larger than the padded input.
// `after`: the padding behind.
void check_geometry(std::string_view operation, const Geometry& g, const std::int64_t (&after)[3]);

// Grids of windows that together give every output. A convolution has one; a transposed one has one for each remainder
// of an output's place by the stride, since these see different taps.
class Grids {
 public:
  // `windows` has everything but the windows' places.
  Grids(const Geometry& geometry, const packed::Windows& windows);
  [[nodiscard]] std::vector<packed::Windows>& windows() { return windows_; }

 private:
  std::array<std::vector<std::vector<packed::Tap>>, 3> taps_;  // by dim and remainder
  std::vector<packed::Windows> windows_;
};

// The arguments that say where windows are, of an operation whose kernel's extents are `kernel`.
template <class Call>
[[nodiscard]] Geometry geometry_of(const Call& c, const std::int64_t (&kernel)[3], bool transposed) {
  const Tensor &x = c.template tensor<"x">(), &y = c.template output<"y">();
  Geometry g{
      .transposed = transposed,
      .stride = {c.template integer<"stride_d">(), c.template integer<"stride_h">(), c.template integer<"stride_w">()},
      .padding = {c.template integer<"padding_d">(), c.template integer<"padding_h">(),
                  c.template integer<"padding_w">()},
      .dilation = {c.template integer<"dilation_d">(), c.template integer<"dilation_h">(),
                   c.template integer<"dilation_w">()}};
  for (int d = 0; d < 3; ++d) {
    g.in[d] = x.size(d + 1);
    g.out[d] = y.size(d + 1);
    g.kernel[d] = kernel[d];
  }
  return g;
}

}  // namespace mambasdk::convolution
