// A hash with a key that each process draws anew, so that no file can hold keys which all collide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace mambasdk::runtime {

struct HashKey {
  std::uint64_t first, second;  // second is odd
};
[[nodiscard]] const HashKey& hash_key();

// Both halves of the product of 64-bit numbers, folded into one (as in wyhash).
[[nodiscard]] inline std::uint64_t folded_product(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// For unordered containers of strings; looks up views without copying them.
struct KeyedHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    const HashKey& key = hash_key();
    std::uint64_t hash = text.size() ^ key.second;
    while (text.size() >= 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, text.data(), 8);
      hash = folded_product(hash ^ word ^ key.first, key.second);
      text.remove_prefix(8);
    }
    std::uint64_t rest = 0;
    for (const char c : text) rest = rest << 8 | static_cast<unsigned char>(c);
    return static_cast<std::size_t>(folded_product(folded_product(hash ^ rest ^ key.first, key.second), key.second));
  }
};

}  // namespace mambasdk::runtime
