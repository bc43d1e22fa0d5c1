// The scalar kernel of every convolution: double accumulation, every dtype, any strides.
#include "core/element.hpp"
#include "ops/convolution/convolution.hpp"

namespace mambasdk::convolution {

std::int64_t Problem::weight_offset(std::int64_t group, std::int64_t column, const std::int64_t (&tap)[3],
                                    std::int64_t channel) const {
  const Tensor& w = weight;
  if (packed) {
    const std::int64_t row =
        ((tap[0] * geometry.kernel[1] + tap[1]) * geometry.kernel[2] + tap[2]) * channels + channel;
    return column / kPackedColumns * w.stride(0) + row * w.stride(1) + column % kPackedColumns * w.stride(2);
  }
  std::int64_t offset = 0;
  for (int d = 0; d < 3; ++d) offset += tap[d] * w.stride(d + 1);
  if (geometry.transposed) return offset + (group * channels + channel) * w.stride(0) + column * w.stride(4);
  return offset + (group * columns + column) * w.stride(0) + channel * w.stride(4);
}

namespace {

// One element of y without its ending: `place` is (batch, depth, height, width).
double sum_at(const Problem& p, const std::int64_t (&place)[4], std::int64_t group, std::int64_t column) {
  const Geometry& g = p.geometry;
  double sum = 0.0;
  std::int64_t tap[3];
  for (tap[0] = 0; tap[0] < g.kernel[0]; ++tap[0]) {
    for (tap[1] = 0; tap[1] < g.kernel[1]; ++tap[1]) {
      for (tap[2] = 0; tap[2] < g.kernel[2]; ++tap[2]) {
        std::int64_t from = place[0] * p.x.stride(0) + group * p.channels * p.x.stride(4);
        bool inside = true;
        for (int d = 0; d < 3; ++d) {
          const std::int64_t i = g.input_of(d, place[d + 1], tap[d]);
          inside = inside && i >= 0;
          from += i * p.x.stride(d + 1);
        }
        if (!inside) continue;
        for (std::int64_t c = 0; c < p.channels; ++c) {
          sum += load_element(p.x.data, p.x.dtype, from + c * p.x.stride(4)) *
                 load_element(p.weight.data, p.weight.dtype, p.weight_offset(group, column, tap, c));
        }
      }
    }
  }
  return sum;
}

}  // namespace

void reference(const Problem& p) {
  const std::int64_t columns = p.groups * p.columns;
  for (std::int64_t i = 0, count = p.y.numel(); i < count; ++i) {
    const std::int64_t row = i / columns, o = i % columns;
    std::int64_t place[4] = {}, rest = row;
    for (int d = 2; d >= 0; --d) {
      place[d + 1] = rest % p.geometry.out[d];
      rest /= p.geometry.out[d];
    }
    place[0] = rest;
    const double sum = sum_at(p, place, o / p.columns, o % p.columns);
    store_element(p.y.data, p.y.dtype, i, ended(p.ending, sum, row, o));
  }
}

}  // namespace mambasdk::convolution
