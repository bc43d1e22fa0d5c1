#include "ops/sampling/reference.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/element.hpp"

namespace mambasdk::sampling {
namespace {

struct Tap {
  std::int64_t index;
  double weight;
};
using Taps = std::vector<Tap>;

// `high` for what is no number.
double limited(double x, double low, double high) {
  return std::max(low, x < high ? x : high);
}

double reflected(double x, double size, bool align_corners) {
  const double low = align_corners ? 0.0 : -0.5, span = align_corners ? size - 1.0 : size;
  if (span <= 0.0) return 0.0;
  x = std::fmod(std::abs(x - low), 2.0 * span);
  return std::min(x, 2.0 * span - x) + low;
}

// A tap at the whole number `at`, unless it has no weight.
void add(Taps& taps, double at, double weight, double size, const Rule& rule) {
  if (rule.padding == Padding::zeros && !(at >= 0.0 && at <= size - 1.0)) return;
  if (weight != 0.0) taps.push_back({static_cast<std::int64_t>(limited(at, 0.0, size - 1.0)), weight});
}

// What a position takes of an axis.
Taps taps_of(double x, std::int64_t extent, const Rule& rule) {
  constexpr double kFar = static_cast<double>(kMostPositions / 2);
  const auto size = static_cast<double>(extent);
  Taps taps;
  if (rule.mode == Mode::cubic) {
    constexpr double a = -0.75;
    const auto near = [](double d) { return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0; };
    const auto far = [](double d) { return ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a; };
    x = limited(x, -kFar, kFar);
    const double first = std::floor(x), t = x - first;
    const double weight[4] = {far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)};
    for (int k = 0; k < 4; ++k) {
      double at = first + (k - 1);
      if (rule.padding == Padding::reflection) at = std::nearbyint(reflected(at, size, rule.align_corners));
      add(taps, at, weight[k], size, rule);
    }
    return taps;
  }
  if (rule.padding == Padding::reflection) x = reflected(limited(x, -kFar, kFar), size, rule.align_corners);
  x = rule.padding == Padding::zeros ? limited(x, -1.0, size) : limited(x, 0.0, size - 1.0);
  if (rule.mode == Mode::nearest) {
    add(taps, std::nearbyint(x), 1.0, size, rule);
    return taps;
  }
  const double first = std::floor(x);
  add(taps, first, 1.0 - (x - first), size, rule);
  add(taps, first + 1.0, x - first, size, rule);
  return taps;
}

double position(double coordinate, std::int64_t extent, bool align_corners) {
  const auto size = static_cast<double>(extent);
  return align_corners ? (coordinate + 1.0) * (size - 1.0) / 2.0 : ((coordinate + 1.0) * size - 1.0) / 2.0;
}

}  // namespace

void reference_grid(const Tensor& x, const Tensor& grid, const Rule& rule, const Tensor& y) {
  const auto axes = static_cast<int>(grid.size(4));
  std::int64_t to = 0;
  const std::int64_t points = grid.size(1) * grid.size(2) * grid.size(3);
  for (std::int64_t b = 0; b < x.size(0); ++b) {
    for (std::int64_t i = 0; i < points; ++i) {
      const std::int64_t w = i % grid.size(3), h = i / grid.size(3) % grid.size(2), d = i / grid.size(3) / grid.size(2);
      const std::int64_t at = b * grid.stride(0) + d * grid.stride(1) + h * grid.stride(2) + w * grid.stride(3);
      Taps taps[3] = {{{0, 1.0}}, {}, {}};  // of depth, height, width; coordinates come the other way round
      for (int axis = 0; axis < axes; ++axis) {
        const double coordinate = load_element(grid.data, grid.dtype, at + axis * grid.stride(4));
        const std::int64_t extent = x.size(3 - axis);
        taps[2 - axis] = taps_of(position(coordinate, extent, rule.align_corners), extent, rule);
      }
      for (std::int64_t c = 0; c < x.size(4); ++c, ++to) {
        double sum = 0.0;
        for (const Tap& z : taps[0])
          for (const Tap& v : taps[1])
            for (const Tap& u : taps[2])
              sum += z.weight * v.weight * u.weight *
                     load_element(x.data, x.dtype,
                                  b * x.stride(0) + z.index * x.stride(1) + v.index * x.stride(2) +
                                      u.index * x.stride(3) + c * x.stride(4));
        store_element(y.data, y.dtype, to, sum);
      }
    }
  }
}

namespace {

// An output position, and where its entries of offset_mask begin.
struct Place {
  std::int64_t at[3];  // batch, height, width
  std::int64_t row;

  Place(std::int64_t i, const DeformableArgs& a, const Tensor& offset_mask)
      : at{i / a.size[1] / a.size[0], i / a.size[1] % a.size[0], i % a.size[1]},
        row(at[0] * offset_mask.stride(0) + at[1] * offset_mask.stride(1) + at[2] * offset_mask.stride(2)) {}
};

// Where tap t of group g samples, (height, width), and its mask.
struct Point {
  double at[2];
  double mask;

  Point(const Place& place, std::int64_t g, std::int64_t t, const DeformableArgs& a, const Tensor& offset_mask) {
    const std::int64_t taps = a.kernel[0] * a.kernel[1], tap[2] = {t % a.kernel[0], t / a.kernel[0]};
    const auto read = [&](std::int64_t entry) {
      return load_element(offset_mask.data, offset_mask.dtype,
                          place.row + (g * 3 * taps + entry) * offset_mask.stride(3));
    };
    for (int axis = 0; axis < 2; ++axis) {
      const std::int64_t half = a.dilation[axis] * (a.kernel[axis] - 1) / 2;
      const auto center = static_cast<double>(place.at[axis + 1] * a.stride[axis] - a.padding[axis] + half);
      const auto within = static_cast<double>(tap[axis] * a.dilation[axis] - half);
      at[axis] = center + (within + read(2 * t + (1 - axis))) * a.offset_scale;
    }
    mask = read(2 * taps + t);
  }
};

// How the weights of taps_of change with the position: both neighbours, but none outside.
Taps slopes_of(double x, std::int64_t extent) {
  const auto size = static_cast<double>(extent);
  Taps slopes;
  if (!(x > -1.0 && x < size)) return slopes;
  const double first = std::floor(x);
  add(slopes, first, -1.0, size, Rule{});
  add(slopes, first + 1.0, 1.0, size, Rule{});
  return slopes;
}

}  // namespace

void reference_deformable(const Tensor& x, const Tensor& offset_mask, const DeformableArgs& a, const Tensor& y) {
  const std::int64_t taps = a.kernel[0] * a.kernel[1], depth = x.size(3) / a.groups;
  std::vector<double> sum(static_cast<std::size_t>(depth));
  std::int64_t to = 0;
  for (std::int64_t i = 0; i < x.size(0) * a.size[0] * a.size[1]; ++i) {
    const Place place(i, a, offset_mask);
    for (std::int64_t g = 0; g < a.groups; ++g) {
      std::fill(sum.begin(), sum.end(), 0.0);
      for (std::int64_t t = 0; t < taps; ++t) {
        const Point point(place, g, t, a, offset_mask);
        for (const Tap& v : taps_of(point.at[0], x.size(1), Rule{}))
          for (const Tap& u : taps_of(point.at[1], x.size(2), Rule{}))
            for (std::int64_t c = 0; c < depth; ++c)
              sum[static_cast<std::size_t>(c)] +=
                  point.mask * v.weight * u.weight *
                  load_element(x.data, x.dtype,
                               place.at[0] * x.stride(0) + v.index * x.stride(1) + u.index * x.stride(2) +
                                   (g * depth + c) * x.stride(3));
      }
      for (const double value : sum) store_element(y.data, y.dtype, to++, value);
    }
  }
}

void reference_deformable_backward(const Tensor& grad_y, const Tensor& x, const Tensor& offset_mask,
                                   const DeformableArgs& a, const Tensor& grad_x, const Tensor& grad_offset_mask) {
  const std::int64_t taps = a.kernel[0] * a.kernel[1], channels = x.size(3), depth = channels / a.groups;
  const std::int64_t entries = offset_mask.size(3);
  std::vector<double> sums(static_cast<std::size_t>(x.numel()));
  for (std::int64_t i = 0; i < x.size(0) * a.size[0] * a.size[1]; ++i) {
    const Place place(i, a, offset_mask);
    const std::int64_t from =
        place.at[0] * grad_y.stride(0) + place.at[1] * grad_y.stride(1) + place.at[2] * grad_y.stride(2);
    const auto store = [&](std::int64_t entry, double value) {
      store_element(grad_offset_mask.data, grad_offset_mask.dtype, i * entries + entry, value);
    };
    for (std::int64_t e = a.groups * 3 * taps; e < entries; ++e) store(e, 0.0);
    for (std::int64_t g = 0; g < a.groups; ++g) {
      // grad_y times what an element of x holds, over the group's channels; with `weight` it is added to its gradient.
      const auto visit = [&](const Tap& v, const Tap& u, double weight) {
        double dot = 0.0;
        for (std::int64_t c = g * depth; c < (g + 1) * depth; ++c) {
          const double grad = load_element(grad_y.data, grad_y.dtype, from + c * grad_y.stride(3));
          dot += grad * load_element(x.data, x.dtype,
                                     place.at[0] * x.stride(0) + v.index * x.stride(1) + u.index * x.stride(2) +
                                         c * x.stride(3));
          const std::int64_t to = ((place.at[0] * x.size(1) + v.index) * x.size(2) + u.index) * channels + c;
          sums[static_cast<std::size_t>(to)] += weight * grad;
        }
        return dot;
      };
      for (std::int64_t t = 0; t < taps; ++t) {
        const Point point(place, g, t, a, offset_mask);
        const Taps rows = taps_of(point.at[0], x.size(1), Rule{}), columns = taps_of(point.at[1], x.size(2), Rule{});
        double of_u = 0.0, of_v = 0.0, of_mask = 0.0;
        for (const Tap& v : rows)
          for (const Tap& u : columns) of_mask += v.weight * u.weight * visit(v, u, point.mask * v.weight * u.weight);
        const double change = point.mask * a.offset_scale;
        for (const Tap& v : rows)
          for (const Tap& u : slopes_of(point.at[1], x.size(2)))
            of_u += change * v.weight * u.weight * visit(v, u, 0.0);
        for (const Tap& v : slopes_of(point.at[0], x.size(1)))
          for (const Tap& u : columns) of_v += change * v.weight * u.weight * visit(v, u, 0.0);
        store(g * 3 * taps + 2 * t, of_u);
        store(g * 3 * taps + 2 * t + 1, of_v);
        store((g * 3 + 2) * taps + t, of_mask);
      }
    }
  }
  for (std::size_t i = 0; i < sums.size(); ++i)
    store_element(grad_x.data, grad_x.dtype, static_cast<std::int64_t>(i), sums[i]);
}

}  // namespace mambasdk::sampling
