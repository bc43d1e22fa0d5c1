// The regular expressions of tokenizer.json "Split" steps, compiled to a table: one look-up per character, no
// backtracking, so a match costs time linear in the text it looks at.
//
// Understood (Oniguruma's Ruby syntax, as the `tokenizers` package uses it): literals, '.', sets with ranges and
// negation, \s \d \w and their negations, \p{..} \P{..} with general categories, alternation, groups (..) (?:..)
// (?i:..), quantifiers ? * + {n,m} and their lazy forms, possessive ones on a single character, and look-ahead (?=x)
// (?!x) at a single character. Anything else is refused by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mambasdk::runtime {

class Pattern {
 public:
  static constexpr std::size_t npos = static_cast<std::size_t>(-1);

  // Errors: unsupported (a construct not listed above, or a table that would be too large), corrupt (no valid pattern).
  [[nodiscard]] static Pattern compile(std::string_view pattern);
  // Matches `text` itself, which may not be empty.
  [[nodiscard]] static Pattern literal(std::string_view text);

  // End of the match that starts at text[at] (leftmost alternative first, as in backtracking engines); npos if there is
  // none. Matches are never empty. The text must be valid UTF-8 and at a character boundary.
  [[nodiscard]] std::size_t match(std::string_view text, std::size_t at) const;

 private:
  friend class PatternCompiler;

  // transitions_[state * symbols_ + symbol] = next state * 2 + 1 if the text up to here is a match; next state 0 is
  // dead.
  std::vector<std::uint16_t> transitions_;
  std::size_t symbols_ = 0;                  // the last one stands for the end of the text
  std::vector<std::uint8_t> plane_symbols_;  // symbol of each character of the Basic Multilingual Plane
  std::vector<char32_t> starts_;             // beyond it: ranges of code points with the same symbol
  std::vector<std::uint8_t> range_symbols_;
};

}  // namespace mambasdk::runtime
