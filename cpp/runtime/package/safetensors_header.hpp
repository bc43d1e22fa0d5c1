// The header of a safetensors file: names, types, shapes and places. Read event by event, so that what it takes in
// memory is what it says, and never more than a few times its own bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace mambasdk::runtime {

inline constexpr std::size_t kMaxSafetensorsHeader = std::size_t{16} << 20;  // room for some 150,000 tensors
inline constexpr std::size_t kMaxSafetensorsRank = 64;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  // in the buffer after the header
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // as the file lists them; a name may be there twice
  std::map<std::string, std::string> metadata;
};

// Errors: corrupt, naming `source`.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::string_view text, std::string_view source);

}  // namespace mambasdk::runtime
