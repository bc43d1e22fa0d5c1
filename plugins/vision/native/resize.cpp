#include "resize.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace mambasdk::vision {

namespace {

// Weights are integers of 22 fractional bits: 8 bits of sample and 2 of headroom for overshoot fill an int32.
constexpr int kBits = 32 - 8 - 2;
constexpr std::int32_t kHalf = 1 << (kBits - 1);

double triangle(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

// Keys' cubic convolution with a = -0.5 (IEEE TASSP 29, 1981).
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

struct Taps {
  std::int64_t first;  // source index of the first weight
  std::vector<std::int32_t> weights;
};

// Weights of outputs [begin, begin + count) of an axis that goes from `from` to `to` samples.
std::vector<Taps> axis_taps(std::int64_t from, std::int64_t to, std::int64_t begin, std::int64_t count, Filter filter) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double stretch = std::max(scale, 1.0);  // the filter widens when shrinking: antialiasing
  const double support = (filter == Filter::bilinear ? 1.0 : 2.0) * stretch;
  std::vector<Taps> out(static_cast<std::size_t>(count));
  std::vector<double> weights;
  for (std::int64_t i = 0; i < count; ++i) {
    const double centre = (static_cast<double>(begin + i) + 0.5) * scale;
    const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(centre - support + 0.5), 0);
    const auto end = std::min<std::int64_t>(static_cast<std::int64_t>(centre + support + 0.5), from);
    weights.assign(static_cast<std::size_t>(end - first), 0.0);
    double sum = 0.0;
    for (std::size_t k = 0; k < weights.size(); ++k) {
      const double x = (static_cast<double>(first + static_cast<std::int64_t>(k)) - centre + 0.5) * (1.0 / stretch);
      weights[k] = filter == Filter::bilinear ? triangle(x) : cubic(x);
      sum += weights[k];
    }
    Taps& taps = out[static_cast<std::size_t>(i)];
    taps.first = first;
    for (double w : weights) {
      if (sum != 0.0) w /= sum;
      taps.weights.push_back(static_cast<std::int32_t>(w * (1 << kBits) + (w < 0 ? -0.5 : 0.5)));
    }
  }
  return out;
}

std::uint8_t rounded(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255));
}

// Rows [first_row, first_row + count) of the image, narrowed or widened; an empty table of taps cuts out the columns
// [left, left + width).
Image along_rows(const Image& image, const std::vector<Taps>& taps, std::int64_t left, std::int64_t width,
                 std::int64_t first_row, std::int64_t count) {
  const std::size_t stride = static_cast<std::size_t>(width) * 3;
  Image out{count, width, std::vector<std::uint8_t>(static_cast<std::size_t>(count) * stride)};
  for (std::int64_t y = 0; y < count; ++y) {
    const std::uint8_t* in = &image.rgb[static_cast<std::size_t>((first_row + y) * image.width * 3)];
    std::uint8_t* to = &out.rgb[static_cast<std::size_t>(y) * stride];
    if (taps.empty()) std::memcpy(to, in + left * 3, stride);
    for (const Taps& t : taps) {
      std::int32_t sum[3] = {kHalf, kHalf, kHalf};
      const std::uint8_t* pixel = in + t.first * 3;
      for (const std::int32_t w : t.weights) {
        for (int c = 0; c < 3; ++c) sum[c] += pixel[c] * w;
        pixel += 3;
      }
      for (int c = 0; c < 3; ++c) *to++ = rounded(sum[c]);
    }
  }
  return out;
}

// The image, whose first row the taps count as first_row, shortened or lengthened.
Image along_columns(const Image& image, const std::vector<Taps>& taps, std::int64_t first_row) {
  const std::size_t stride = static_cast<std::size_t>(image.width) * 3;
  Image out{static_cast<std::int64_t>(taps.size()), image.width, std::vector<std::uint8_t>(taps.size() * stride)};
  std::vector<std::int32_t> sums(stride);
  for (std::size_t y = 0; y < taps.size(); ++y) {
    std::fill(sums.begin(), sums.end(), kHalf);
    const std::uint8_t* in = &image.rgb[static_cast<std::size_t>(taps[y].first - first_row) * stride];
    for (const std::int32_t w : taps[y].weights) {
      for (std::size_t i = 0; i < stride; ++i) sums[i] += in[i] * w;
      in += stride;
    }
    for (std::size_t i = 0; i < stride; ++i) out.rgb[y * stride + i] = rounded(sums[i]);
  }
  return out;
}

}  // namespace

// Along rows first, rounded to 8 bits, then along columns.
Image resize(const Image& image, std::int64_t height, std::int64_t width, Filter filter, Window window) {
  std::vector<Taps> columns;  // none where the image has its width already
  if (image.width != width) columns = axis_taps(image.width, width, window.left, window.width, filter);
  if (image.height == height) return along_rows(image, columns, window.left, window.width, window.top, window.height);
  const std::vector<Taps> rows = axis_taps(image.height, height, window.top, window.height, filter);
  const std::int64_t first = rows.front().first;
  const std::int64_t end = rows.back().first + static_cast<std::int64_t>(rows.back().weights.size());
  return along_columns(along_rows(image, columns, window.left, window.width, first, end - first), rows, first);
}

}  // namespace mambasdk::vision
