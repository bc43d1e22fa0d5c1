// Reading WAV files from memory. Nothing in a file is trusted.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace mambasdk::audio {

struct Waveform {
  std::int64_t rate = 0;       // samples per second
  std::vector<float> samples;  // mono, from -1 to 1 where the file holds integers
};

inline constexpr std::int64_t kMaxRate = 768000;
inline constexpr std::int64_t kMaxChannels = 64;

// RIFF WAVE and RF64: PCM of 8, 16, 24 or 32 bits, also in larger blocks, float of 32 or 64, plain or extensible (with
// fewer bits that count); channels are averaged. A data chunk that claims more than the file has (as streams write it)
// ends with the file. Throws Error: corrupt, also for samples that are not finite, with their number; unsupported for
// other encodings; invalid_argument for more than max_samples frames (checked before anything is allocated).
[[nodiscard]] Waveform read_wav(std::string_view bytes, std::int64_t max_samples);

void check_length(std::int64_t samples, std::int64_t max_samples);

}  // namespace mambasdk::audio
