#include "resample.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>

#include "mambasdk/base.hpp"

namespace mambasdk::audio {

namespace {

constexpr std::int64_t kZeros = 32;
constexpr double kBeta = 9.0;    // stop band near -90 dB
constexpr double kCutoff = 0.9;  // of the lower Nyquist frequency: the transition ends there

// The modified Bessel function of order zero, by its power series.
double bessel_i0(double x) {
  double sum = 1.0;
  double term = 1.0;
  for (int k = 1; term > sum * 1e-17; ++k) {
    term *= (x / (2.0 * k)) * (x / (2.0 * k));
    sum += term;
  }
  return sum;
}

}  // namespace

std::vector<double> resampling_filter(std::int64_t up, std::int64_t down) {
  const std::int64_t slower = std::max(up, down);
  const std::int64_t half = kZeros * slower;
  const double cutoff = kCutoff / static_cast<double>(slower);  // 1 is the Nyquist frequency of the interpolated signal
  std::vector<double> taps(static_cast<std::size_t>(2 * half + 1));
  double sum = 0.0;
  for (std::int64_t i = -half; i <= half; ++i) {
    const double x = std::numbers::pi * cutoff * static_cast<double>(i);
    const double sinc = i == 0 ? 1.0 : std::sin(x) / x;
    const double t = static_cast<double>(i) / static_cast<double>(half);
    const double window = bessel_i0(kBeta * std::sqrt(std::max(0.0, 1.0 - t * t))) / bessel_i0(kBeta);
    sum += taps[static_cast<std::size_t>(i + half)] = sinc * window;
  }
  for (double& tap : taps) tap *= static_cast<double>(up) / sum;
  return taps;
}

std::vector<float> resample(std::span<const float> samples, std::int64_t from, std::int64_t to) {
  if (from == to) return {samples.begin(), samples.end()};
  const std::int64_t divisor = std::gcd(from, to);
  const std::int64_t up = to / divisor;
  const std::int64_t down = from / divisor;
  if (2 * kZeros * std::max(up, down) + 1 > kMaxTaps) {
    throw Error(MAMBASDK_ERROR_UNSUPPORTED, "waveform",
                "waveform: no resampling from " + std::to_string(from) + " to " + std::to_string(to) +
                    " Hz: the two have no common divisor of a useful size; convert the file to a usual rate");
  }
  const std::vector<double> taps = resampling_filter(up, down);
  const std::int64_t half = static_cast<std::int64_t>(taps.size()) / 2;
  // By phase, in order of the inputs: weight k of phase p meets input (p + half) / up - k of the interpolated grid.
  const std::size_t width = static_cast<std::size_t>(2 * half / up + 1);
  std::vector<double> phases(width * static_cast<std::size_t>(up), 0.0);  // (up, width)
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(taps.size()); ++i) {
    const std::int64_t phase = i % up;
    phases[static_cast<std::size_t>(phase) * width + static_cast<std::size_t>(i / up)] =
        taps[static_cast<std::size_t>(i)];
  }
  const auto n = static_cast<std::int64_t>(samples.size());
  const std::int64_t count = (n * up + down - 1) / down;
  std::vector<float> out(static_cast<std::size_t>(count));
  for (std::int64_t m = 0; m < count; ++m) {
    const std::int64_t position = m * down + half;  // on the interpolated grid
    const double* weights = &phases[static_cast<std::size_t>(position % up) * width];
    const std::int64_t last = position / up;  // input of weight 0
    const std::int64_t begin = std::max<std::int64_t>(0, last - (n - 1));
    const std::int64_t end = std::min(static_cast<std::int64_t>(width), last + 1);
    double sum = 0.0;
    for (std::int64_t k = begin; k < end; ++k) sum += weights[k] * samples[static_cast<std::size_t>(last - k)];
    out[static_cast<std::size_t>(m)] = static_cast<float>(sum);
  }
  return out;
}

}  // namespace mambasdk::audio
