#include "wav.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "mambasdk/base.hpp"

namespace mambasdk::audio {

namespace {

constexpr std::uint64_t kPcm = 1;
constexpr std::uint64_t kFloat = 3;
constexpr std::uint64_t kExtensible = 0xFFFE;

// The rest of the GUID of a sub-format whose first two bytes are an encoding.
constexpr std::string_view kGuid("\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71", 14);
constexpr std::uint64_t kUnknownSize = 0xFFFFFFFF;  // of a stream, or of RF64, which says it elsewhere

struct Format {
  std::uint64_t encoding = 0;
  std::int64_t channels = 0;
  std::int64_t rate = 0;
  std::size_t bytes = 0;  // that a sample of one channel takes
  std::size_t bits = 0;   // that count, the upper ones of these bytes
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

[[noreturn]] void unknown_encoding(std::uint64_t encoding, std::uint64_t bits) {
  throw Error(MAMBASDK_ERROR_UNSUPPORTED, "waveform",
              "waveform: the WAV file has encoding " + std::to_string(encoding) + " with " + std::to_string(bits) +
                  " bits, expected PCM (1) of 8, 16, 24 or 32 bits or float (3) of 32 or 64; convert it");
}

Format read_format(std::string_view chunk) {
  if (chunk.size() < 16) corrupt("its format chunk is cut off");
  Format f;
  f.encoding = read(chunk, 0, 2);
  f.channels = static_cast<std::int64_t>(read(chunk, 2, 2));
  f.rate = static_cast<std::int64_t>(read(chunk, 4, 4));
  const auto block = static_cast<std::size_t>(read(chunk, 12, 2));
  f.bits = static_cast<std::size_t>(read(chunk, 14, 2));
  if (f.channels < 1 || f.channels > kMaxChannels) corrupt("it has " + std::to_string(f.channels) + " channels");
  if (f.rate < 1 || f.rate > kMaxRate) corrupt("its rate is " + std::to_string(f.rate) + " Hz");
  std::size_t container = f.bits;
  if (f.encoding == kExtensible) {
    if (chunk.size() < 40) corrupt("its format chunk is cut off");
    const auto valid = static_cast<std::size_t>(read(chunk, 18, 2));
    f.encoding = read(chunk, 24, 2);
    if (chunk.substr(26, 14) != kGuid) unknown_encoding(f.encoding, f.bits);
    if (valid > container) {
      corrupt("of its " + std::to_string(container) + " bits " + std::to_string(valid) + " are said to count");
    }
    if (valid != 0 && f.encoding == kPcm) f.bits = valid;
  }
  const bool whole = container == 8 || container == 16 || container == 24 || container == 32;
  const bool known = (f.encoding == kPcm && whole) || (f.encoding == kFloat && (container == 32 || container == 64));
  if (!known) unknown_encoding(f.encoding, container);
  const auto channels = static_cast<std::size_t>(f.channels);
  f.bytes = block == 0 ? (container + 7) / 8 : block / channels;  // some writers leave the size of a block out
  const bool exact = f.encoding == kFloat || container == 8;
  const bool fits = exact ? f.bytes == container / 8 : f.bytes >= container / 8 && f.bytes <= 8;
  if (!fits || (block != 0 && block % channels != 0)) {
    corrupt("its blocks of " + std::to_string(block) + " bytes hold no " + std::to_string(f.channels) +
            " channels of " + std::to_string(f.bits) + " bits");
  }
  return f;
}

// Samples of fewer bits than their bytes hold have them on top and zeros below. Some writers put 24 bits below, under a
// byte of sign: there the lowest byte is not always zero, and the highest is always a sign.
bool is_padded_above(std::string_view data, const Format& f) {
  if (f.encoding != kPcm || f.bits % 8 != 0 || f.bits / 8 == f.bytes) return false;
  const std::size_t used = f.bits / 8;
  bool zeros_below = true;
  for (std::size_t at = 0; at + f.bytes <= data.size(); at += f.bytes) {
    zeros_below = zeros_below && read(data, at, f.bytes - used) == 0;
    const bool negative = (static_cast<std::uint8_t>(data[at + used - 1]) & 0x80) != 0;
    for (std::size_t i = used; i < f.bytes; ++i) {
      if (static_cast<std::uint8_t>(data[at + i]) != (negative ? 0xFF : 0)) return false;
    }
  }
  return !zeros_below;
}

double sample(std::string_view data, std::size_t at, const Format& f, std::size_t bytes) {
  const std::uint64_t raw = read(data, at, bytes);
  if (f.encoding == kFloat) {
    return bytes == 4 ? std::bit_cast<float>(static_cast<std::uint32_t>(raw)) : std::bit_cast<double>(raw);
  }
  if (bytes == 1) return (static_cast<double>(raw) - 128.0) / 128.0;  // 8 bits are unsigned
  const auto value = static_cast<std::int64_t>(raw << (64 - 8 * bytes));
  return static_cast<double>(value) * 0x1p-63;
}

Waveform read_samples(std::string_view data, const Format& format, std::int64_t max_samples) {
  const auto channels = static_cast<std::size_t>(format.channels);
  const std::size_t stride = format.bytes * channels;
  const std::size_t count = data.size() / stride;
  check_length(static_cast<std::int64_t>(count), max_samples);
  const std::size_t bytes = is_padded_above(data.substr(0, count * stride), format) ? format.bits / 8 : format.bytes;
  Waveform out{format.rate, std::vector<float>(count)};
  for (std::size_t i = 0; i < count; ++i) {
    double sum = 0;
    for (std::size_t c = 0; c < channels; ++c) sum += sample(data, i * stride + c * format.bytes, format, bytes);
    const double mean = sum / static_cast<double>(format.channels);
    if (!(std::abs(mean) <= std::numeric_limits<float>::max())) {
      corrupt("sample " + std::to_string(i) + " is not finite, or beyond float32");
    }
    out.samples[i] = static_cast<float>(mean);
  }
  return out;
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
  const std::string_view riff = bytes.substr(0, 4);
  const bool large = riff == "RF64" || riff == "BW64";
  if (bytes.size() < 12 || (riff != "RIFF" && !large) || bytes.substr(8, 4) != "WAVE") {
    throw Error(MAMBASDK_ERROR_UNSUPPORTED, "waveform",
                "waveform: these " + std::to_string(bytes.size()) +
                    " bytes are no WAV file; convert the file, or give samples as f32");
  }
  Format format;
  std::uint64_t large_size = kUnknownSize;  // of the data of RF64
  std::size_t at = 12;
  while (bytes.size() - at >= 8) {
    const std::string_view name = bytes.substr(at, 4);
    std::uint64_t claimed = read(bytes, at + 4, 4);
    at += 8;
    if (name == "data" && large && claimed == kUnknownSize) claimed = large_size;
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(claimed, bytes.size() - at));
    const std::string_view chunk = bytes.substr(at, size);
    if (name == "fmt ") {
      format = read_format(chunk);
    } else if (name == "ds64") {
      if (chunk.size() < 16) corrupt("its size chunk is cut off");
      large_size = read(chunk, 8, 8);
    } else if (name == "data") {
      if (format.channels == 0) corrupt("its samples come before their format");
      return read_samples(chunk, format, max_samples);
    }
    at += std::min(size + (size & 1), bytes.size() - at);  // chunks start at even offsets
  }
  corrupt("it has no samples");
}

}  // namespace mambasdk::audio
