// UTF-8 validation and repair.
#include "runtime/text/utf8.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace mambasdk::runtime {

void append_utf8(std::string& text, char32_t code_point) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

Utf8Piece read_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {Utf8Status::complete, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8Status::invalid, 1};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies past U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8Status::incomplete, i};
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF)) return {Utf8Status::invalid, i};
  }
  return {Utf8Status::complete, length};
}

std::size_t find_invalid_utf8(std::string_view text) {
  constexpr std::uint64_t high_bits = 0x8080808080808080u;
  std::size_t at = 0;
  while (at < text.size()) {
    std::uint64_t word = 0;
    while (at + 8 <= text.size() && (std::memcpy(&word, text.data() + at, 8), (word & high_bits) == 0)) at += 8;
    if (at == text.size()) break;
    const Utf8Piece piece = read_utf8(text.substr(at));
    if (piece.status != Utf8Status::complete) return at;
    at += piece.length;
  }
  return std::string_view::npos;
}

std::string to_valid_utf8(std::string_view text) {
  if (find_invalid_utf8(text) == std::string_view::npos) return std::string(text);
  std::string valid;
  while (!text.empty()) {
    const Utf8Piece piece = read_utf8(text);
    if (piece.status == Utf8Status::complete) {
      valid.append(text.substr(0, piece.length));
    } else {
      append_utf8(valid, kReplacementCharacter);
    }
    text.remove_prefix(piece.length);
  }
  return valid;
}

}  // namespace mambasdk::runtime
