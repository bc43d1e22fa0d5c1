#include "resample.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace mambasdk::medical {

namespace {

constexpr std::size_t kLanes = 16;  // lines that are worked on side by side
constexpr std::size_t kPad = 2;     // edge samples on either side: a cubic position reads two beyond it

using Lanes = std::array<double, kLanes>;

// Where the samples of an output are in a padded line, and their weights.
struct Taps {
  std::size_t count;  // 1, 2 or 4, neighbours
  std::vector<std::size_t> first;
  std::vector<double> weights;  // (outputs, count)
};

Taps taps_of(std::int64_t from, std::int64_t to, int order) {
  const auto m = static_cast<std::size_t>(to);
  Taps taps{order == 0 ? 1U : order == 1 ? 2U : 4U, std::vector<std::size_t>(m), {}};
  taps.weights.reserve(m * taps.count);
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const auto last = static_cast<double>(from - 1);
  for (std::size_t k = 0; k < m; ++k) {
    const double place = (static_cast<double>(k) + 0.5) * scale - 0.5;
    if (order == 0) {
      taps.first[k] = static_cast<std::size_t>(std::floor(std::clamp(place, 0.0, last) + 0.5)) + kPad;
      taps.weights.push_back(1.0);
      continue;
    }
    const double inside = order == 1 ? std::clamp(place, 0.0, last) : place;
    const double cell = std::floor(inside);
    const double t = inside - cell;
    const auto at = static_cast<std::size_t>(static_cast<std::int64_t>(cell) + static_cast<std::int64_t>(kPad));
    if (order == 1) {
      taps.first[k] = at;
      taps.weights.insert(taps.weights.end(), {1.0 - t, t});
      continue;
    }
    taps.first[k] = at - 1;
    const double u = 1.0 - t;
    taps.weights.insert(taps.weights.end(), {u * u * u / 6.0, 2.0 / 3.0 - t * t * (2.0 - t) / 2.0,
                                             2.0 / 3.0 - u * u * (2.0 - u) / 2.0, t * t * t / 6.0});
  }
  return taps;
}

// Samples to the coefficients of the cubic B-spline through them (Unser, Aldroubi and Eden, IEEE PAMI 13, 1991), of an
// endless line whose edges go on: the recursions begin where they would be after endlessly many equal samples.
void spline_coefficients(std::vector<Lanes>& line) {
  const double pole = std::sqrt(3.0) - 2.0;
  const double gain = 6.0;
  const std::size_t n = line.size();
  const Lanes last = line[n - 1];
  for (std::size_t l = 0; l < kLanes; ++l) line[0][l] *= gain / (1.0 - pole);
  for (std::size_t i = 1; i < n; ++i) {
    for (std::size_t l = 0; l < kLanes; ++l) line[i][l] = gain * line[i][l] + pole * line[i - 1][l];
  }
  for (std::size_t l = 0; l < kLanes; ++l) {
    const double level = gain * last[l] / (1.0 - pole);  // what the recursion goes to beyond the edge
    line[n - 1][l] = -pole * (level / (1.0 - pole) + (line[n - 1][l] - level) / (1.0 - pole * pole));
  }
  for (std::size_t i = n - 1; i-- > 0;) {
    for (std::size_t l = 0; l < kLanes; ++l) line[i][l] = pole * (line[i + 1][l] - line[i][l]);
  }
}

template <std::size_t kTaps>
void interpolate(const Taps& taps, const Lanes* line, std::size_t k, Lanes& out) {
  const Lanes* at = line + taps.first[k];
  const double* w = &taps.weights[k * kTaps];
  for (std::size_t l = 0; l < kLanes; ++l) {
    double sum = w[0] * at[0][l];
    for (std::size_t j = 1; j < kTaps; ++j) sum += w[j] * at[j][l];
    out[l] = sum;
  }
}

// Samples of `lanes` lines of a volume, `lane` apart from line to line and `step` from sample to sample.
struct Block {
  std::size_t lanes, lane, step;
};

void load(const float* from, const Block& b, std::size_t n, std::vector<Lanes>& line) {
  for (std::size_t i = 0; i < n; ++i) {
    Lanes& row = line[i + kPad];
    if (b.lane == 1 && b.lanes == kLanes) {
      for (std::size_t l = 0; l < kLanes; ++l) row[l] = from[i * b.step + l];
    } else {
      for (std::size_t l = 0; l < b.lanes; ++l) row[l] = from[i * b.step + l * b.lane];
    }
  }
  for (std::size_t i = 0; i < kPad; ++i) line[i] = line[kPad], line[n + kPad + i] = line[n + kPad - 1];
}

template <std::size_t kTaps>
void resample_block(const Taps& taps, const float* from, const Block& in, std::size_t n, float* to, const Block& out,
                    std::vector<Lanes>& line) {
  load(from, in, n, line);
  if constexpr (kTaps == 4) spline_coefficients(line);
  Lanes row;
  for (std::size_t k = 0; k < taps.first.size(); ++k) {
    interpolate<kTaps>(taps, line.data(), k, row);
    float* at = to + k * out.step;
    if (out.lane == 1 && out.lanes == kLanes) {
      for (std::size_t l = 0; l < kLanes; ++l) at[l] = static_cast<float>(row[l]);
    } else {
      for (std::size_t l = 0; l < out.lanes; ++l) at[l * out.lane] = static_cast<float>(row[l]);
    }
  }
}

// in (outer, n, inner) to out (outer, m, inner). Lines side by side are neighbours in memory, or, of the last axis,
// rows.
void resample_axis(const mambasdk_context& context, const float* in, std::int64_t outer, std::int64_t n,
                   std::int64_t inner, std::int64_t m, int order, float* out) {
  const Taps taps = taps_of(n, m, order);
  const auto run = order == 0 ? resample_block<1> : order == 1 ? resample_block<2> : resample_block<4>;
  const auto lines = static_cast<std::size_t>(inner == 1 ? outer : inner);
  const auto groups = static_cast<std::size_t>(inner == 1 ? 1 : outer);
  const auto from = static_cast<std::size_t>(n), to = static_cast<std::size_t>(m);
  const auto width = static_cast<std::size_t>(inner);
  const std::size_t blocks = (lines + kLanes - 1) / kLanes;
  for_ranges(context, static_cast<std::int64_t>(groups * blocks), 8, [&](std::int64_t begin, std::int64_t end) {
    std::vector<Lanes> line(from + 2 * kPad, Lanes{});
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      const std::size_t group = i / blocks, first = i % blocks * kLanes;
      const std::size_t lanes = std::min(kLanes, lines - first);
      if (inner == 1) {
        run(taps, in + first * from, {lanes, from, 1}, from, out + first * to, {lanes, to, 1}, line);
      } else {
        run(taps, in + group * from * width + first, {lanes, 1, width}, from, out + group * to * width + first,
            {lanes, 1, width}, line);
      }
    }
  });
}

// The axes that change, in the order in which they are resampled: one that is apart last, of the others those first
// that shrink most, so that less is left to do.
std::vector<std::size_t> axes_of(const Shape& from, const Shape& to, int apart) {
  std::vector<std::size_t> axes;
  for (std::size_t a = 0; a < 3; ++a) {
    if (from[a] != to[a]) axes.push_back(a);  // splines go through their samples
  }
  std::stable_sort(axes.begin(), axes.end(), [&](std::size_t a, std::size_t b) {
    if (static_cast<int>(a) == apart || static_cast<int>(b) == apart) return static_cast<int>(b) == apart && a != b;
    return static_cast<double>(to[a]) / static_cast<double>(from[a]) <
           static_cast<double>(to[b]) / static_cast<double>(from[b]);
  });
  return axes;
}

// Least and largest sample of each plane across an axis, or of all where it is -1.
class Ranges {
 public:
  Ranges(const mambasdk_context& context, const float* values, const Shape& shape, int axis)
      : context_(context), axis_(axis), ranges_(axis < 0 ? 1 : static_cast<std::size_t>(shape[slot()])) {
    // Rows are looked at in turn: reading is all that this takes.
    const Layout l = layout(shape);
    std::fill(ranges_.begin(), ranges_.end(), std::pair(HUGE_VALF, -HUGE_VALF));
    for (std::size_t o = 0, i = 0; o < l.outer; ++o) {
      for (auto& [least, most] : ranges_) {
        float low = least, high = most;
        for (std::size_t k = 0; k < l.inner; ++k, ++i) low = std::min(low, values[i]), high = std::max(high, values[i]);
        least = low, most = high;
      }
    }
  }
  void clip(float* values, const Shape& shape) const {
    const Layout l = layout(shape);
    for_ranges(context_, static_cast<std::int64_t>(l.outer * ranges_.size()), 1,
               [&](std::int64_t begin, std::int64_t end) {
                 for (auto p = static_cast<std::size_t>(begin); p < static_cast<std::size_t>(end); ++p) {
                   const auto [least, most] = ranges_[p % ranges_.size()];
                   for (std::size_t k = p * l.inner; k < (p + 1) * l.inner; ++k)
                     values[k] = std::clamp(values[k], least, most);
                 }
               });
  }

 private:
  struct Layout {
    std::size_t outer, inner;
  };
  [[nodiscard]] std::size_t slot() const { return static_cast<std::size_t>(axis_); }
  [[nodiscard]] Layout layout(const Shape& shape) const {
    if (axis_ < 0) return {1, count_of(shape)};
    Layout l{1, 1};
    for (std::size_t a = 0; a < 3; ++a) {
      if (a != slot()) (a < slot() ? l.outer : l.inner) *= static_cast<std::size_t>(shape[a]);
    }
    return l;
  }

  const mambasdk_context& context_;
  int axis_;
  std::vector<std::pair<float, float>> ranges_;
};

}  // namespace

void resample(const mambasdk_context& context, std::span<const float> in, std::int64_t channels, const Shape& from,
              const Shape& to, const Resampling& how, std::span<float> out) {
  const std::vector<std::size_t> axes = axes_of(from, to, how.axis);
  const auto is_apart = [&](std::size_t a) { return static_cast<int>(a) == how.axis; };
  const std::size_t joint = axes.size() - static_cast<std::size_t>(std::count_if(axes.begin(), axes.end(), is_apart));
  const bool clips = how.clip && how.order == 3 && joint != 0;
  const std::size_t size_in = count_of(from), size_out = count_of(to);
  std::vector<float> held, next;
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
    const float* source = in.data() + c * size_in;
    float* target = out.data() + c * size_out;
    if (axes.empty()) std::copy_n(source, size_out, target);
    std::optional<Ranges> ranges;
    if (clips) ranges.emplace(context, source, from, how.axis);
    Shape shape = from;
    for (std::size_t i = 0; i < axes.size(); ++i) {
      const std::size_t a = axes[i];
      Shape after = shape;
      after[a] = to[a];
      const bool last = i + 1 == axes.size();
      if (!last) next.resize(count_of(after));
      float* made = last ? target : next.data();
      std::int64_t outer = 1, inner = 1;
      for (std::size_t b = 0; b < 3; ++b) {
        if (b != a) (b < a ? outer : inner) *= shape[b];
      }
      resample_axis(context, source, outer, shape[a], inner, to[a], is_apart(a) ? how.axis_order : how.order, made);
      if (clips && i + 1 == joint) ranges->clip(made, after);
      std::swap(held, next);
      source = held.data();
      shape = after;
    }
  }
}

int separate_axis(const Spacing& current, const Spacing& target, double threshold) {
  const auto anisotropic = [&](const Spacing& s) {
    return *std::max_element(s.begin(), s.end()) / *std::min_element(s.begin(), s.end()) > threshold;
  };
  if (!anisotropic(current) && !anisotropic(target)) return -1;
  const Spacing& chosen = anisotropic(current) ? current : target;
  const auto largest = std::max_element(chosen.begin(), chosen.end());
  if (std::count(chosen.begin(), chosen.end(), *largest) != 1) return -1;
  return static_cast<int>(largest - chosen.begin());
}

Shape resampled_shape(const Shape& shape, const Spacing& current, const Spacing& target) {
  Shape out{};
  for (std::size_t a = 0; a < 3; ++a) {
    const double extent = std::nearbyint(current[a] / target[a] * static_cast<double>(shape[a]));
    if (!(current[a] > 0 && target[a] > 0) || !(extent <= 2147483648.0)) {
      plugin::invalid("resampling from " + std::to_string(current[a]) + " to " + std::to_string(target[a]) +
                      " mm: expected positive spacings that give a volume of a size that memory holds");
    }
    out[a] = std::max<std::int64_t>(1, static_cast<std::int64_t>(extent));
  }
  return out;
}

}  // namespace mambasdk::medical
