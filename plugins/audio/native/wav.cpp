#include "wav.hpp"

#include <algorithm>
#include <bit>
#include <string>

#include "mambasdk/base.hpp"

namespace mambasdk::audio {

namespace {

constexpr std::uint64_t kPcm = 1;
constexpr std::uint64_t kFloat = 3;
constexpr std::uint64_t kExtensible = 0xFFFE;

struct Format {
  std::uint64_t encoding = 0;
  std::int64_t channels = 0;
  std::int64_t rate = 0;
  std::size_t bytes = 0;  // of one sample of one channel
};

[[noreturn]] void corrupt(const std::string& what) {
  throw Error(MAMBASDK_ERROR_CORRUPT, "waveform", "waveform: the WAV file is damaged: " + what);
}

// Little-endian; the caller has checked the bounds.
std::uint64_t read(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) value = value << 8 | static_cast<std::uint8_t>(bytes[at + i]);
  return value;
}

Format read_format(std::string_view chunk) {
  if (chunk.size() < 16) corrupt("its format chunk is cut off");
  Format f;
  f.encoding = read(chunk, 0, 2);
  f.channels = static_cast<std::int64_t>(read(chunk, 2, 2));
  f.rate = static_cast<std::int64_t>(read(chunk, 4, 4));
  const std::uint64_t bits = read(chunk, 14, 2);
  if (f.encoding == kExtensible) {
    if (chunk.size() < 26) corrupt("its format chunk is cut off");
    f.encoding = read(chunk, 24, 2);  // the first two bytes of the sub-format's GUID
  }
  f.bytes = static_cast<std::size_t>(bits / 8);
  const bool known = (f.encoding == kPcm && (bits == 8 || bits == 16 || bits == 24 || bits == 32)) ||
                     (f.encoding == kFloat && (bits == 32 || bits == 64));
  if (!known) {
    throw Error(MAMBASDK_ERROR_UNSUPPORTED, "waveform",
                "waveform: the WAV file has encoding " + std::to_string(f.encoding) + " with " + std::to_string(bits) +
                    " bits, expected PCM (1) of 8, 16, 24 or 32 bits or float (3) of 32 or 64; convert it");
  }
  if (f.channels < 1 || f.channels > kMaxChannels) corrupt("it has " + std::to_string(f.channels) + " channels");
  if (f.rate < 1 || f.rate > kMaxRate) corrupt("its rate is " + std::to_string(f.rate) + " Hz");
  return f;
}

double sample(std::string_view data, std::size_t at, const Format& f) {
  const std::uint64_t raw = read(data, at, f.bytes);
  if (f.encoding == kFloat) {
    return f.bytes == 4 ? std::bit_cast<float>(static_cast<std::uint32_t>(raw)) : std::bit_cast<double>(raw);
  }
  if (f.bytes == 1) return (static_cast<double>(raw) - 128.0) / 128.0;  // 8 bits are unsigned
  const std::int64_t half = std::int64_t{1} << (8 * f.bytes - 1);
  const auto value = static_cast<std::int64_t>(raw);
  return static_cast<double>(value >= half ? value - 2 * half : value) / static_cast<double>(half);
}

}  // namespace

void check_length(std::int64_t samples, std::int64_t max_samples) {
  if (samples > max_samples) {
    throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "waveform",
                "waveform: it has " + std::to_string(samples) + " samples, expected at most " +
                    std::to_string(max_samples) + "; raise max_samples or cut it into pieces");
  }
}

Waveform read_wav(std::string_view bytes, std::int64_t max_samples) {
  if (bytes.size() < 12 || bytes.substr(0, 4) != "RIFF" || bytes.substr(8, 4) != "WAVE") {
    throw Error(MAMBASDK_ERROR_UNSUPPORTED, "waveform",
                "waveform: these " + std::to_string(bytes.size()) +
                    " bytes are no WAV file; convert the file, or give samples as f32");
  }
  Format format;
  std::size_t at = 12;
  while (bytes.size() - at >= 8) {
    const std::string_view name = bytes.substr(at, 4);
    const std::uint64_t claimed = read(bytes, at + 4, 4);
    at += 8;
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(claimed, bytes.size() - at));
    const std::string_view chunk = bytes.substr(at, size);
    if (name == "fmt ") {
      format = read_format(chunk);
    } else if (name == "data") {
      if (format.channels == 0) corrupt("its samples come before their format");
      const std::size_t stride = format.bytes * static_cast<std::size_t>(format.channels);
      const std::size_t count = size / stride;
      check_length(static_cast<std::int64_t>(count), max_samples);
      Waveform out{format.rate, std::vector<float>(count)};
      for (std::size_t i = 0; i < count; ++i) {
        double sum = 0;
        for (std::size_t c = 0; c < static_cast<std::size_t>(format.channels); ++c) {
          sum += sample(chunk, i * stride + c * format.bytes, format);
        }
        out.samples[i] = static_cast<float>(sum / static_cast<double>(format.channels));
      }
      return out;
    }
    at += std::min(size + (size & 1), bytes.size() - at);  // chunks start at even offsets
  }
  corrupt("it has no samples");
}

}  // namespace mambasdk::audio
