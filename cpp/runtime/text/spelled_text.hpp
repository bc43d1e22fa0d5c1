// From tokens that spell bytes to valid UTF-8, token by token or all at once.
#pragma once

#include <deque>
#include <string>
#include <string_view>

namespace mambasdk::runtime {

// What a token adds to decoded text.
struct TokenText {
  std::string bytes;      // may begin or end inside a character
  std::string otherwise;  // what stands where `bytes` spell no character; empty: U+FFFD
};

class SpelledText {
 public:
  void add(const TokenText& token);
  // The text that is complete; at_end: all of it, with U+FFFD or `otherwise` for what was never completed.
  [[nodiscard]] std::string take(bool at_end);
  // Bytes not yet taken, and cutting some from their start.
  [[nodiscard]] std::string_view pending() const { return pending_; }
  void cut(std::size_t bytes);

 private:
  struct Choice {
    std::size_t begin, end;  // in pending_
    std::string otherwise;
  };
  std::string pending_;
  std::deque<Choice> choices_;  // by begin
};

}  // namespace mambasdk::runtime
