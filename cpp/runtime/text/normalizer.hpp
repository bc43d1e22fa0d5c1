// Normalisers of tokenizer.json: what happens to text before it is cut into words.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/text/pattern.hpp"
#include "runtime/text/text_budget.hpp"
#include "runtime/text/unicode.hpp"

namespace mambasdk::runtime {

class Normalizer {
 public:
  // null: no normaliser. Errors: unsupported (naming the component), corrupt.
  [[nodiscard]] static Normalizer from_json(const nlohmann::json& value);

  [[nodiscard]] bool is_identity() const noexcept { return steps_.empty(); }
  // What it writes is taken from the budget. Errors: unsupported (over the budget).
  [[nodiscard]] std::string apply(std::string_view text, TextBudget& budget) const;

 private:
  struct Lowercase {};
  struct Prepend {
    std::string text;
  };
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  using Step = std::variant<NormalizationForm, Lowercase, Prepend, Replace>;

  void add(const nlohmann::json& value, int depth);

  std::vector<Step> steps_;
};

// {"String": ..} or {"Regex": ..}, as tokenizer.json writes patterns.
[[nodiscard]] Pattern pattern_from_json(const nlohmann::json& value, std::string_view where);

// A member that is one character, as Metaspace and Strip have. Errors: corrupt.
[[nodiscard]] std::string character_from_json(const nlohmann::json& object, std::string_view key,
                                              std::string_view where);

// `text` with every match replaced; `where` names the component in errors.
[[nodiscard]] std::string replace_all(std::string_view text, const Pattern& pattern, std::string_view content,
                                      TextBudget& budget, std::string_view where);

}  // namespace mambasdk::runtime
