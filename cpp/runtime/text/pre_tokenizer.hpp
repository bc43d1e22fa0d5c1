// Pre-tokenisers of tokenizer.json: how text is cut into the words that the model sees one at a time.
#pragma once

#include <deque>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/text/pattern.hpp"
#include "runtime/text/text_budget.hpp"

namespace mambasdk::runtime {

// Words as views, and the texts that steps had to write anew for them to point into.
struct Words {
  std::vector<std::string_view> views;
  bool at_start = false;  // the first word begins where the input begins
  std::deque<std::string> texts;
};

class PreTokenizer {
 public:
  // null: the whole text is one word. Errors: unsupported (naming the component), corrupt.
  [[nodiscard]] static PreTokenizer from_json(const nlohmann::json& value);

  // The words are bytes, not characters: the model's vocabulary spells bytes in the alphabet of GPT-2 (byte_alphabet).
  [[nodiscard]] bool is_byte_level() const noexcept { return byte_level_; }

  // Cuts words.views in place; what is left is not empty. Texts that it writes are taken from the budget.
  void apply(Words& words, TextBudget& budget) const;

 private:
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
  struct Split {
    Pattern pattern;
    Behavior behavior;
    bool invert;
  };
  struct Digits {
    bool individual;
  };
  struct Metaspace {
    std::string replacement;
    enum class Prepend { always, first, never } prepend;
    bool split;
    Pattern pattern;  // the replacement
  };
  struct ByteLevel {
    bool add_prefix_space;
    bool use_regex;
  };
  using Step = std::variant<Split, Digits, Metaspace, ByteLevel>;
  struct Piece {
    std::size_t begin, end;
    bool match;
  };

  void add(const nlohmann::json& value, int depth);
  void run(const Split& step, Words& words, TextBudget& budget) const;
  void run(const Digits& step, Words& words, TextBudget& budget) const;
  void run(const Metaspace& step, Words& words, TextBudget& budget) const;
  void run(const ByteLevel& step, Words& words, TextBudget& budget) const;
  static void merge(std::vector<Piece>& pieces, Behavior behavior);
  static void split(Words& words, Behavior behavior, bool invert, const Pattern& pattern);
  template <class Matcher>
  static void split_by(Words& words, Behavior behavior, bool invert, Matcher&& matcher);

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace mambasdk::runtime
