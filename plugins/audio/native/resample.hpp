// Change of the sampling rate by a rational factor: a windowed sinc in polyphase form.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mambasdk::audio {

// The low-pass filter of an interpolation by `up` and a decimation by `down` (coprime): a sinc of kZeros zero crossings
// on each side under a Kaiser window, scaled to a gain of `up`; odd length, centred.
[[nodiscard]] std::vector<double> resampling_filter(std::int64_t up, std::int64_t down);

// n samples at rate `from` become ceil(n * to / from) at rate `to`; the signal is zero outside. Throws Error
// (unsupported) where the rates have so small a common divisor that the filter would take more than kMaxTaps.
[[nodiscard]] std::vector<float> resample(std::span<const float> samples, std::int64_t from, std::int64_t to);

inline constexpr std::int64_t kMaxTaps = 1 << 20;  // 16,383 is the larger of up and down at most

}  // namespace mambasdk::audio
