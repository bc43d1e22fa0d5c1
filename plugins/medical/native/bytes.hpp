// The bytes of a file in memory, plain or compressed by gzip, read from front to back.
#pragma once

#define ZLIB_CONST  // zlib then does not ask for bytes that it may write to
#include <zlib.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mambasdk::medical {

// Decompressed bytes for a byte of a compressed file: deflate cannot do better than 1032.
inline constexpr std::int64_t kBytesOfByte = 1040;

[[nodiscard]] bool is_gzip(std::string_view bytes);

class ByteSource {
 public:
  // bytes: of a gzip file, or plain; borrowed. name: for errors.
  ByteSource(std::string_view bytes, std::string name);
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  ~ByteSource();

  // Fills `out`. Throws Error (corrupt) where there is less, or the compressed data are damaged.
  void read(std::span<std::uint8_t> out);
  void skip(std::int64_t count);
  // Reads what follows, little, so that the checksum of a gzip file is compared too.
  void finish();
  // The most bytes that all of it may give.
  [[nodiscard]] std::int64_t most() const;

 private:
  std::size_t inflate_into(std::span<std::uint8_t> out);

  std::string_view bytes_;
  std::string name_;
  std::size_t at_ = 0;
  bool gzip_;
  bool ended_ = false;  // the stream's last byte has come
  z_stream stream_{};
};

// `bytes` as a gzip file without name and time: the same each time.
[[nodiscard]] std::vector<std::uint8_t> gzip(std::span<const std::uint8_t> bytes);
// As a zlib stream, which PNG holds.
[[nodiscard]] std::vector<std::uint8_t> deflate_zlib(std::span<const std::uint8_t> bytes);
// Inflates a zlib stream into `out`. Throws Error (corrupt) where it is damaged or gives less.
void inflate_zlib(std::span<const std::uint8_t> bytes, std::span<std::uint8_t> out, const std::string& name);

}  // namespace mambasdk::medical
