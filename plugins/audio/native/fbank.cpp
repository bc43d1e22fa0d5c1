#include "fbank.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "fft.hpp"
#include "mambasdk/base.hpp"

namespace mambasdk::audio {

namespace {

// Float32's machine epsilon: the least energy, so that silence has a logarithm (-15.94).
constexpr double kFloor = 1.1920928955078125e-7;
constexpr std::size_t kMaxFft = 1 << 16;
constexpr std::int64_t kMaxOverlap = 64;  // frames that share a sample

double mel(double frequency) {
  return 1127.0 * std::log(1.0 + frequency / 700.0);
}

[[noreturn]] void bad(const std::string& message) {
  throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "fbank", "fbank: " + message);
}

}  // namespace

Fbank::Fbank(const FbankOptions& options) : options_(options) {
  const double rate = static_cast<double>(options.rate);
  const auto length = static_cast<std::int64_t>(rate * options.frame_length_ms / 1000.0);
  shift_ = static_cast<std::int64_t>(rate * options.frame_shift_ms / 1000.0);
  if (length < 2 || shift_ < 1) bad("a frame has fewer than 2 samples, or frames do not advance");
  if (length > kMaxOverlap * shift_) {
    bad("a frame of " + std::to_string(length) + " samples every " + std::to_string(shift_) + ": more than " +
        std::to_string(kMaxOverlap) + " frames overlap; raise frame_shift_ms");
  }
  fft_size_ = 2;
  while (fft_size_ < static_cast<std::size_t>(length)) fft_size_ *= 2;
  if (fft_size_ > kMaxFft) bad("a frame has more than " + std::to_string(kMaxFft) + " samples");
  window_.resize(static_cast<std::size_t>(length));
  for (std::size_t i = 0; i < window_.size(); ++i) {  // symmetric Hann
    window_[i] =
        0.5 - 0.5 * std::cos(2.0 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(window_.size() - 1));
  }

  const double nyquist = rate / 2.0;
  const double high = options.high_freq > 0.0 ? options.high_freq : nyquist + options.high_freq;
  if (!(options.low_freq >= 0.0 && options.low_freq < high && high <= nyquist)) {
    bad("expected 0 <= low_freq < high_freq <= " + std::to_string(nyquist) + ", got " +
        std::to_string(options.low_freq) + " and " + std::to_string(high));
  }
  const double low_mel = mel(options.low_freq);
  const double width = (mel(high) - low_mel) / static_cast<double>(options.num_mel_bins + 1);
  const double bin_width = rate / static_cast<double>(fft_size_);
  std::vector<double> mel_of(fft_size_ / 2);
  for (std::size_t k = 0; k < mel_of.size(); ++k) mel_of[k] = mel(bin_width * static_cast<double>(k));
  for (std::int64_t b = 0; b < options.num_mel_bins; ++b) {  // a triangle in mel; the bin at Nyquist takes no part
    const double left = low_mel + static_cast<double>(b) * width;
    Filter filter{0, {}};
    for (std::size_t k = 0; k < mel_of.size(); ++k) {
      const double m = mel_of[k];
      if (m >= left + 2.0 * width) break;
      const double weight = std::min((m - left) / width, (left + 2.0 * width - m) / width);
      if (weight <= 0.0) continue;
      if (filter.weights.empty()) filter.first = k;
      filter.weights.push_back(weight);
    }
    filters_.push_back(std::move(filter));
  }
}

std::int64_t Fbank::frames(std::int64_t samples) const {
  return samples < frame_length() ? 0 : 1 + (samples - frame_length()) / shift_;
}

void Fbank::frame(std::span<const float> samples, std::int64_t index, std::span<float> out) const {
  const std::span<const float> x = samples.subspan(static_cast<std::size_t>(index * shift_), window_.size());
  double mean = 0.0;
  for (const float v : x) mean += v;
  mean /= static_cast<double>(x.size());
  std::vector<double> padded(fft_size_, 0.0);
  for (std::size_t i = 0; i < x.size(); ++i) {  // the sample before the first is the first
    const double before = x[i == 0 ? 0 : i - 1] - mean;
    padded[i] = (x[i] - mean - options_.preemphasis * before) * window_[i];
  }
  const std::vector<double> power = power_spectrum(padded);
  for (std::size_t b = 0; b < filters_.size(); ++b) {
    double energy = 0.0;
    for (std::size_t k = 0; k < filters_[b].weights.size(); ++k) {
      energy += filters_[b].weights[k] * power[filters_[b].first + k];
    }
    out[b] = static_cast<float>(std::log(std::max(energy, kFloor)));
  }
}

}  // namespace mambasdk::audio
