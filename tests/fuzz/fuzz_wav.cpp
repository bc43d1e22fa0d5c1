// Any bytes as a WAV file: an Error, or a waveform whose samples are finite, which is resampled and made a filterbank.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "fbank.hpp"
#include "mambasdk/base.hpp"
#include "resample.hpp"
#include "seeds.hpp"
#include "wav.hpp"

namespace audio = mambasdk::audio;

namespace {

std::string little(std::uint64_t value, std::size_t size) {
  std::string out;
  for (std::size_t i = 0; i < size; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
  return out;
}

// A header of 16 or 40 bytes of format and 600 samples; container: bytes of one.
std::string seed(std::uint64_t encoding, std::uint64_t bits, std::uint64_t container, std::uint64_t rate,
                 bool extensible = false) {
  std::string format = little(extensible ? 0xFFFE : encoding, 2) + little(1, 2) + little(rate, 4) + little(0, 4) +
                       little(container, 2) + little(extensible ? container * 8 : bits, 2);
  if (extensible) {
    format += little(22, 2) + little(bits, 2) + little(4, 4) + little(encoding, 2) +
              std::string("\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71", 14);
  }
  std::string data;
  for (std::size_t i = 0; i < 600 * container; ++i) data += static_cast<char>(i * 37 % 61);
  return "RIFF" + little(0, 4) + "WAVEfmt " + little(format.size(), 4) + format + "data" + little(data.size(), 4) +
         data;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(
      *argc, *argv,
      {seed(1, 8, 1, 8000), seed(1, 16, 2, 8000), seed(1, 24, 3, 8000), seed(1, 24, 4, 16000), seed(1, 32, 4, 8000),
       seed(3, 32, 4, 8000), seed(3, 64, 8, 8000), seed(1, 20, 3, 16000, true), seed(1, 24, 4, 16000, true),
       seed(1, 16, 2, 1), seed(1, 16, 2, 767999)});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::int64_t kMaxSamples = 4096;
  constexpr std::int64_t kTarget = 16000;
  static const audio::Fbank fbank({.num_mel_bins = 16});
  try {
    const audio::Waveform wave = audio::read_wav({reinterpret_cast<const char*>(data), size}, kMaxSamples);
    if (static_cast<std::int64_t>(wave.samples.size()) > kMaxSamples) std::abort();
    if (wave.rate < 1 || wave.rate > audio::kMaxRate) std::abort();
    for (const float v : wave.samples) {
      if (!std::isfinite(v)) std::abort();
    }
    if (wave.rate % 1000 != 0) return 0;  // other rates make large filters: slow, and no other code
    const auto count = static_cast<std::int64_t>(wave.samples.size());
    const auto out = audio::resample(wave.samples, wave.rate, kTarget);
    if (static_cast<std::int64_t>(out.size()) != (count * kTarget + wave.rate - 1) / wave.rate) std::abort();
    std::vector<float> row(16);
    for (std::int64_t t = 0; t < fbank.frames(static_cast<std::int64_t>(out.size())) && t < 64; ++t) {
      fbank.frame(out, t, row);
    }
  } catch (const mambasdk::Error&) {
  }
  return 0;
}
