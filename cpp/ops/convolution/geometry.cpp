#include "ops/convolution/geometry.hpp"

#include <algorithm>

#include "core/extent.hpp"

namespace mambasdk::convolution {
namespace {

using packed::Tap;
using packed::Windows;
constexpr const char* kLetters[] = {"d", "h", "w"};

void swap_dims(Windows& w, int a, int b) {
  const auto exchange = [&](auto& of) { std::swap(of[a], of[b]); };
  std::swap(w.x_stride[a + 1], w.x_stride[b + 1]);
  exchange(w.in), exchange(w.count), exchange(w.step), exchange(w.taps), exchange(w.tap_count), exchange(w.kernel);
  exchange(w.out), exchange(w.out_first), exchange(w.out_step);
}

bool is_trivial(const Windows& w, int d) {
  return w.in[d] == 1 && w.count[d] == 1 && w.kernel[d] == 1 && w.tap_count[d] == 1 && w.taps[d]->offset == 0 &&
         w.out[d] == 1;
}
// Every output is that of the input at its own place.
bool is_pointwise(const Windows& w, int d) {
  return w.kernel[d] == 1 && w.tap_count[d] == 1 && w.taps[d]->offset == 0 && w.step[d] == 1 && w.count[d] == w.in[d] &&
         w.out[d] == w.in[d];
}

// Makes lines as long as they can be: the kernel's tiles are parts of lines.
void lengthen_lines(Windows& w) {
  for (int d = 1; d >= 0; --d) {
    if (is_trivial(w, 2) && !is_trivial(w, d)) swap_dims(w, d, 2);
  }
  if (!is_pointwise(w, 2)) return;
  // Into the width, from the height outwards.
  for (int d = 1; d >= -1; --d) {
    std::int64_t& extent = d >= 0 ? w.in[d] : w.batch;
    if (extent == 1 && (d < 0 || is_pointwise(w, d))) continue;
    if (w.in[2] == 1) w.x_stride[3] = w.x_stride[d + 1];  // its own says nothing
    if ((d >= 0 && !is_pointwise(w, d)) || w.x_stride[d + 1] != w.in[2] * w.x_stride[3]) return;
    w.in[2] = w.count[2] = w.out[2] = w.in[2] * extent;
    extent = 1;
    if (d >= 0) w.count[d] = w.out[d] = 1;
  }
}

}  // namespace

std::int64_t Geometry::input_of(int dim, std::int64_t o, std::int64_t k) const {
  std::int64_t i =
      transposed ? o + padding[dim] - k * dilation[dim] : o * stride[dim] - padding[dim] + k * dilation[dim];
  if (transposed) {
    if (i % stride[dim] != 0) return -1;
    i /= stride[dim];
  }
  return i >= 0 && i < in[dim] ? i : -1;
}

void check_geometry(std::string_view operation, const Geometry& g, const std::int64_t (&after)[3]) {
  for (int d = 0; d < 3; ++d) {
    const auto at_least_one = [&](const char* name, std::int64_t value) {
      if (value >= 1) return;
      fail(ErrorCode::invalid_argument, operation, ": ", name, kLetters[d], " is ", value, ", expected at least 1");
    };
    at_least_one("stride_", g.stride[d]);
    at_least_one("dilation_", g.dilation[d]);
    at_least_one("the kernel's extent along ", g.kernel[d]);
    if (g.transposed) continue;
    const Extent reach = Extent(g.dilation[d]) * (g.kernel[d] - 1) + 1;
    const Extent padded = Extent(g.in[d]) + g.padding[d] + after[d];
    if (reach <= padded) continue;
    fail(ErrorCode::invalid_argument, operation, ": the kernel reaches over ", reach.value(), " elements along ",
         kLetters[d], ", expected at most ", padded.value(), ", the extent of x with its padding");
  }
}

Grids::Grids(const Geometry& g, const Windows& windows) {
  std::int64_t remainders[3];
  for (int d = 0; d < 3; ++d) {
    auto& taps = taps_[static_cast<std::size_t>(d)];
    remainders[d] = g.transposed ? std::min(g.stride[d], g.out[d]) : 1;
    taps.resize(static_cast<std::size_t>(remainders[d]));
    for (std::int64_t k = 0; k < g.kernel[d]; ++k) {
      if (!g.transposed) {
        taps[0].push_back({k * g.dilation[d] - g.padding[d], k});
        continue;
      }
      // Output r + i stride sees the input (r + padding - k dilation) / stride + i, where that is a whole number.
      const std::int64_t ahead = g.padding[d] - k * g.dilation[d];
      const std::int64_t r = (g.stride[d] - ahead % g.stride[d]) % g.stride[d];
      if (r < remainders[d]) taps[static_cast<std::size_t>(r)].push_back({(ahead + r) / g.stride[d], k});
    }
  }
  for (std::int64_t i = 0; i < remainders[0]; ++i) {
    for (std::int64_t j = 0; j < remainders[1]; ++j) {
      for (std::int64_t k = 0; k < remainders[2]; ++k) {
        Windows& w = windows_.emplace_back(windows);
        const std::int64_t r[] = {i, j, k};
        for (int d = 0; d < 3; ++d) {
          const auto& taps = taps_[static_cast<std::size_t>(d)][static_cast<std::size_t>(r[d])];
          w.in[d] = g.in[d];
          w.out[d] = g.out[d];
          w.kernel[d] = g.kernel[d];
          w.taps[d] = taps.data();
          w.tap_count[d] = static_cast<std::int64_t>(taps.size());
          w.out_first[d] = r[d];
          w.out_step[d] = g.transposed ? g.stride[d] : 1;
          w.step[d] = g.transposed ? 1 : g.stride[d];
          w.count[d] = g.transposed ? (g.out[d] - r[d] - 1) / g.stride[d] + 1 : g.out[d];
        }
        lengthen_lines(w);
      }
    }
  }
}

}  // namespace mambasdk::convolution
