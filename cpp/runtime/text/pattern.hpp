// The regular expressions of tokenizer.json "Split" steps, compiled to a table: one look-up per character, no
// backtracking. Finding all matches of a text takes time linear in the text (PatternScan).
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
  friend class PatternScan;

  // transitions_[state * symbols_ + symbol] = next state * 2 + 1 if the text up to here is a match; next state 0 is
  // dead.
  std::vector<std::uint16_t> transitions_;
  std::size_t symbols_ = 0;                  // the last one stands for the end of the text
  std::vector<std::uint8_t> plane_symbols_;  // symbol of each character of the Basic Multilingual Plane
  std::vector<char32_t> starts_;             // beyond it: ranges of code points with the same symbol
  std::vector<std::uint8_t> range_symbols_;
};

// The matches of a pattern in one text. A walk that goes far beyond its match (`a+b` on a run of a) notes where it came
// to nothing, in which states, and later walks stop there (Reps, "Maximal-munch tokenization in linear time", TOPLAS
// 1998): each state passes each place in vain once. The notes stand at one place in kNoteBytes, so they take at most
// states / 256 bytes for a byte of text, and none where every walk ends within kPlainBytes.
class PatternScan {
 public:
  // Both must outlive the scan.
  PatternScan(const Pattern& pattern, std::string_view text) : pattern_(&pattern), text_(text) {}
  // As Pattern::match.
  [[nodiscard]] std::size_t match(std::size_t at);

 private:
  static constexpr std::size_t kPlainBytes = 64;
  static constexpr std::size_t kNoteBytes = 32;

  [[nodiscard]] std::size_t symbol_at(std::size_t& at) const;
  [[nodiscard]] bool in_vain(std::size_t note) const {
    return !vain_.empty() && (vain_[note / 64] >> (note % 64) & 1) != 0;
  }
  void keep_notes();
  [[nodiscard]] std::size_t walk_far(std::size_t at, std::size_t state, std::size_t end);

  const Pattern* pattern_;
  std::string_view text_;
  std::vector<std::uint64_t> vain_;  // a bit for each place of notes and state
  std::vector<std::size_t> passed_;  // by the walk under way, since its last match
};

}  // namespace mambasdk::runtime
