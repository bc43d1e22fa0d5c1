// Syntax tree of a pattern (pattern.hpp) and its parser.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "runtime/text/unicode.hpp"

namespace mambasdk::runtime {

// One member of a character set.
struct SetItem {
  enum class Kind { range, categories, space, word } kind = Kind::range;
  bool negated = false;
  char32_t first = 0, last = 0;  // range
  CategorySet categories = 0;

  bool operator==(const SetItem&) const = default;
};

struct CharacterSet {
  std::vector<SetItem> items;
  bool negated = false;

  [[nodiscard]] bool contains(char32_t code_point) const;
  bool operator==(const CharacterSet&) const = default;
};

struct PatternNode {
  enum class Kind { character, sequence, alternatives, repeat, look_ahead } kind = Kind::sequence;
  CharacterSet set;                                    // character, look_ahead
  bool negated = false;                                // look_ahead
  std::vector<std::unique_ptr<PatternNode>> children;  // sequence, alternatives; the one child of repeat
  int min = 0;                                         // repeat
  int max = 0;                                         // repeat; kUnbounded
  enum class Mode { greedy, lazy, possessive } mode = Mode::greedy;

  static constexpr int kUnbounded = -1;
};

[[nodiscard]] std::unique_ptr<PatternNode> parse_pattern(std::string_view pattern);

}  // namespace mambasdk::runtime
