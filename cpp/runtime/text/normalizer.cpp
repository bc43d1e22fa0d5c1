// Loading and applying normalisers.
#include "runtime/text/normalizer.hpp"

#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "runtime/package/json.hpp"
#include "runtime/text/overloaded.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

using nlohmann::json;

constexpr std::string_view kNormalizer = "tokenizer.json: normalizer";

}  // namespace

Pattern pattern_from_json(const json& value, std::string_view where) {
  if (const json* text = json_find(json_object(value, where), "String")) {
    return Pattern::literal(json_string(*text, where));
  }
  return Pattern::compile(json_string_at(value, "Regex", where));
}

std::string character_from_json(const json& object, std::string_view key, std::string_view where) {
  std::string text = json_string_at(object, key, where);
  std::size_t at = 0;
  if (!text.empty() && find_invalid_utf8(text) == std::string::npos) (void)next_code_point(text, at);
  if (at == 0 || at != text.size()) {
    fail(ErrorCode::corrupt, where, ".", key, ": expected one character, got \"", printable(text), "\"");
  }
  return text;
}

std::string replace_all(std::string_view text, const Pattern& pattern, std::string_view content, TextBudget& budget,
                        std::string_view where) {
  std::string result;
  budget.spend(text.size(), where);
  result.reserve(text.size());
  PatternScan scan(pattern, text);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = scan.match(at);
    if (end != Pattern::npos) {
      budget.spend(content.size(), where);
      result += content;
      at = end;
    } else {
      const std::size_t begin = at;
      (void)next_code_point(text, at);
      result += text.substr(begin, at - begin);
    }
  }
  return result;
}

Normalizer Normalizer::from_json(const json& value) {
  Normalizer normalizer;
  if (!value.is_null()) normalizer.add(value, 0);
  return normalizer;
}

void Normalizer::add(const json& value, int depth) {
  const std::string where(kNormalizer);
  if (steps_.size() >= kMaxTextSteps) fail(ErrorCode::unsupported, where, ": more than ", kMaxTextSteps, " steps");
  const std::string type = json_string_at(value, "type", where);
  if (depth > kMaxTextDepth) fail(ErrorCode::corrupt, where, ": sequences are nested too deeply");
  if (type == "Sequence") {
    for (const json& part : json_array(json_at(value, "normalizers", where), where)) add(part, depth + 1);
  } else if (type == "NFC") {
    steps_.emplace_back(NormalizationForm::nfc);
  } else if (type == "NFD") {
    steps_.emplace_back(NormalizationForm::nfd);
  } else if (type == "NFKC") {
    steps_.emplace_back(NormalizationForm::nfkc);
  } else if (type == "NFKD") {
    steps_.emplace_back(NormalizationForm::nfkd);
  } else if (type == "Lowercase") {
    steps_.emplace_back(Lowercase{});
  } else if (type == "Prepend") {
    steps_.emplace_back(Prepend{json_string_at(value, "prepend", where)});
  } else if (type == "Replace") {
    steps_.emplace_back(
        Replace{pattern_from_json(json_at(value, "pattern", where), where), json_string_at(value, "content", where)});
  } else {
    fail(ErrorCode::unsupported, where, ": \"", printable(type), "\" is not supported by the native tokenizer");
  }
}

std::string Normalizer::apply(std::string_view text, TextBudget& budget) const {
  std::string result(text);
  for (const Step& step : steps_) {
    result = std::visit(Overloaded{[&](NormalizationForm form) {
                                     budget.spend(result.size(), kNormalizer);
                                     return normalize(result, form);
                                   },
                                   [&](const Lowercase&) {
                                     budget.spend(result.size(), kNormalizer);
                                     return to_lowercase(result);
                                   },
                                   [&](const Prepend& prepend) {
                                     budget.spend(result.size() + prepend.text.size(), kNormalizer);
                                     return result.empty() ? result : prepend.text + result;
                                   },
                                   [&](const Replace& replace) {
                                     return replace_all(result, replace.pattern, replace.content, budget, kNormalizer);
                                   }},
                        step);
  }
  return result;
}

}  // namespace mambasdk::runtime
