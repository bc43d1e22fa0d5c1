// SHA-256 (FIPS 180-4) of bytes; uses the x86 SHA instructions where the processor has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace mambasdk::runtime {

class Sha256 {
 public:
  void update(std::span<const std::byte> data);
  // The digest of everything given to update(); the object is spent afterwards.
  [[nodiscard]] std::array<std::uint8_t, 32> finish();

 private:
  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> block_{};
  std::size_t filled_ = 0;    // bytes waiting in block_
  std::uint64_t length_ = 0;  // bytes seen
};

// 64 lower-case hexadecimal digits.
[[nodiscard]] std::string to_hex(const std::array<std::uint8_t, 32>& digest);
[[nodiscard]] std::string sha256_hex(std::span<const std::byte> data);

}  // namespace mambasdk::runtime
