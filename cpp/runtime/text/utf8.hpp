// UTF-8 reading and writing.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mambasdk::runtime {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

// The code point that starts at text[at], which moves past it. The text must be valid UTF-8 (find_invalid_utf8).
[[nodiscard]] inline char32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[i])); };
  const char32_t lead = byte(at);
  if (lead < 0x80) {
    at += 1;
    return lead;
  }
  if (lead < 0xE0) {
    at += 2;
    return (lead & 0x1F) << 6 | (byte(at - 1) & 0x3F);
  }
  if (lead < 0xF0) {
    at += 3;
    return (lead & 0x0F) << 12 | (byte(at - 2) & 0x3F) << 6 | (byte(at - 1) & 0x3F);
  }
  at += 4;
  return (lead & 0x07) << 18 | (byte(at - 3) & 0x3F) << 12 | (byte(at - 2) & 0x3F) << 6 | (byte(at - 1) & 0x3F);
}

// The start of the code point that ends before text[at]; at > 0.
[[nodiscard]] inline std::size_t previous_code_point(std::string_view text, std::size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

void append_utf8(std::string& text, char32_t code_point);

// Offset of the first byte that is not part of well-formed UTF-8 (Unicode 3.9, table 3-7); npos if there is none.
[[nodiscard]] std::size_t find_invalid_utf8(std::string_view text);

enum class Utf8Status { complete, incomplete, invalid };
struct Utf8Piece {
  Utf8Status status;
  std::size_t
      length;  // bytes of the character; of the maximal ill-formed part if invalid; of what is there if incomplete
};
// What stands at the start of `text`, which is not empty: a character, the beginning of one that the end of the text
// cuts off, or bytes that can begin none.
[[nodiscard]] Utf8Piece read_utf8(std::string_view text);

// `text` with every maximal ill-formed part replaced by U+FFFD.
[[nodiscard]] std::string to_valid_utf8(std::string_view text);

}  // namespace mambasdk::runtime
