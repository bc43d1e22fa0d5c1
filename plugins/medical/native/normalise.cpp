#include "normalise.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mambasdk::medical {

namespace {

constexpr std::int64_t kPiece = 1 << 16;  // voxels whose sum is made at once, whatever the threads

// The sum of f(i) over [0, n), in an order that does not depend on the threads.
template <class F>
double sum_of(const mambasdk_context& context, std::size_t n, const F& f) {
  const std::int64_t pieces = (static_cast<std::int64_t>(n) + kPiece - 1) / kPiece;
  std::vector<double> sums(static_cast<std::size_t>(pieces));
  for_ranges(context, pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      double sum = 0;
      const std::size_t last = std::min(n, static_cast<std::size_t>((p + 1) * kPiece));
      for (auto i = static_cast<std::size_t>(p * kPiece); i < last; ++i) sum += f(i);
      sums[static_cast<std::size_t>(p)] = sum;
    }
  });
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

template <class F>
void map(const mambasdk_context& context, std::span<float> values, const F& f) {
  for_ranges(context, static_cast<std::int64_t>(values.size()), kPiece, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) values[i] = f(values[i], i);
  });
}

double at_least(double deviation) {
  return std::max(deviation, 1e-8);
}

void zscore(const mambasdk_context& context, std::span<float> values, std::span<const std::uint8_t> mask) {
  const auto counts = [&](std::size_t i) { return mask.empty() || mask[i] != 0; };
  const double n = sum_of(context, values.size(), [&](std::size_t i) { return counts(i) ? 1.0 : 0.0; });
  if (n == 0) return;
  const double mean =
      sum_of(context, values.size(), [&](std::size_t i) { return counts(i) ? static_cast<double>(values[i]) : 0.0; }) /
      n;
  const double square = sum_of(context, values.size(), [&](std::size_t i) {
    const double d = static_cast<double>(values[i]) - mean;
    return counts(i) ? d * d : 0.0;
  });
  const double by = 1.0 / at_least(std::sqrt(square / n));
  map(context, values,
      [&](float v, std::size_t i) { return counts(i) ? static_cast<float>((static_cast<double>(v) - mean) * by) : v; });
}

}  // namespace

std::optional<Scheme> scheme_of(std::string_view name) {
  constexpr std::pair<std::string_view, Scheme> schemes[] = {
      {"none", Scheme::none},       {"ct", Scheme::ct},
      {"zscore", Scheme::zscore},   {"zscore_masked", Scheme::zscore_masked},
      {"rescale", Scheme::rescale}, {"rgb", Scheme::rgb}};
  for (const auto& [known, scheme] : schemes) {
    if (known == name) return scheme;
  }
  return std::nullopt;
}

void normalise(const mambasdk_context& context, std::span<float> values, Scheme scheme, const Intensity& intensity,
               std::span<const std::uint8_t> mask) {
  switch (scheme) {
    case Scheme::none:
      return;
    case Scheme::ct: {
      const double by = 1.0 / at_least(intensity.std);
      map(context, values, [&](float v, std::size_t) {
        const double clipped = std::min(std::max(static_cast<double>(v), intensity.lower), intensity.upper);
        return static_cast<float>((clipped - intensity.mean) * by);
      });
      return;
    }
    case Scheme::zscore:
      return zscore(context, values, {});
    case Scheme::zscore_masked:
      return zscore(context, values, mask);
    case Scheme::rescale: {
      if (values.empty()) return;
      const auto [least, most] = std::minmax_element(values.begin(), values.end());
      const double from = *least;
      const double by = 1.0 / at_least(static_cast<double>(*most) - from);
      map(context, values,
          [&](float v, std::size_t) { return static_cast<float>((static_cast<double>(v) - from) * by); });
      return;
    }
    case Scheme::rgb:
      map(context, values, [](float v, std::size_t) { return v / 255.0F; });
  }
}

std::vector<std::uint8_t> nonzero_mask(const mambasdk_context& context, std::span<const float> values,
                                       std::int64_t channels, const Shape& shape) {
  const std::size_t size = count_of(shape);
  std::vector<std::uint8_t> mask(size, 0);
  for_ranges(context, static_cast<std::int64_t>(size), kPiece, [&](std::int64_t begin, std::int64_t end) {
    for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
        mask[i] |= static_cast<std::uint8_t>(values[c * size + i] != 0.0F);
      }
    }
  });
  return mask;
}

void fill_holes(std::vector<std::uint8_t>& mask, const Shape& shape) {
  constexpr std::uint8_t outside = 2;
  const std::array<std::size_t, 3> extents{static_cast<std::size_t>(shape[0]), static_cast<std::size_t>(shape[1]),
                                           static_cast<std::size_t>(shape[2])};
  const std::array<std::size_t, 3> steps{extents[1] * extents[2], extents[2], 1};
  std::vector<std::uint32_t> open;  // zeros that are outside and whose neighbours were not looked at; each comes once
  const auto visit = [&](std::size_t i) {
    if (mask[i] != 0) return;
    mask[i] = outside;
    open.push_back(static_cast<std::uint32_t>(i));
  };
  for (std::size_t i = 0; i < mask.size(); ++i) {
    const std::array<std::size_t, 3> at{i / steps[0], i / steps[1] % extents[1], i % extents[2]};
    for (std::size_t a = 0; a < 3; ++a) {
      if (at[a] == 0 || at[a] + 1 == extents[a]) {
        visit(i);
        break;
      }
    }
    while (!open.empty()) {
      const std::size_t from = open.back();
      open.pop_back();
      const std::array<std::size_t, 3> place{from / steps[0], from / steps[1] % extents[1], from % extents[2]};
      for (std::size_t a = 0; a < 3; ++a) {
        if (place[a] > 0) visit(from - steps[a]);
        if (place[a] + 1 < extents[a]) visit(from + steps[a]);
      }
    }
  }
  for (std::uint8_t& m : mask) m = m != outside;
}

Box box_of(std::span<const std::uint8_t> mask, const Shape& shape) {
  Box box{shape, {}};
  std::size_t i = 0;
  for (std::int64_t z = 0; z < shape[0]; ++z) {
    for (std::int64_t y = 0; y < shape[1]; ++y) {
      const auto row = mask.subspan(i, static_cast<std::size_t>(shape[2]));
      i += row.size();
      const auto first = std::find_if(row.begin(), row.end(), [](std::uint8_t m) { return m != 0; });
      if (first == row.end()) continue;
      std::size_t last = row.size();
      while (row[last - 1] == 0) --last;
      const Shape begin{z, y, first - row.begin()}, end{z + 1, y + 1, static_cast<std::int64_t>(last)};
      for (std::size_t a = 0; a < 3; ++a) {
        box.begin[a] = std::min(box.begin[a], begin[a]);
        box.end[a] = std::max(box.end[a], end[a]);
      }
    }
  }
  if (box.end[0] == 0) return {{}, shape};
  return box;
}

}  // namespace mambasdk::medical
