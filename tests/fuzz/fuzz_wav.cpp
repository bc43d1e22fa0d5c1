// Any bytes as a WAV file: an Error, or a waveform that can be resampled.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "mambasdk/base.hpp"
#include "resample.hpp"
#include "seeds.hpp"
#include "wav.hpp"

namespace audio = mambasdk::audio;

// A header of 16 bytes of format and four samples.
static std::string seed(char encoding, char bits) {
  std::string format = {encoding, 0, 1, 0, '\x40', '\x1f', 0, 0, 0, 0, 0, 0, static_cast<char>(bits / 8), 0, bits, 0};
  std::string data(static_cast<std::size_t>(bits) / 8 * 4, '\x21');
  return std::string("RIFF\0\0\0\0WAVEfmt \x10\0\0\0", 20) + format + "data" + static_cast<char>(data.size()) +
         std::string(3, '\0') + data;
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(*argc, *argv,
                             {seed(1, 8), seed(1, 16), seed(1, 24), seed(1, 32), seed(3, 32), seed(3, 64)});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::int64_t kMaxSamples = 4096;
  try {
    const audio::Waveform wave = audio::read_wav({reinterpret_cast<const char*>(data), size}, kMaxSamples);
    if (static_cast<std::int64_t>(wave.samples.size()) > kMaxSamples) std::abort();
    if (wave.rate < 1 || wave.rate > audio::kMaxRate) std::abort();
    constexpr std::int64_t kTarget = 16000;
    if (wave.rate % 1000 != 0) return 0;  // other rates make large filters: slow, and no other code
    const auto count = static_cast<std::int64_t>(wave.samples.size());
    const auto out = audio::resample(wave.samples, wave.rate, kTarget);
    if (static_cast<std::int64_t>(out.size()) != (count * kTarget + wave.rate - 1) / wave.rate) std::abort();
  } catch (const mambasdk::Error&) {
  }
  return 0;
}
