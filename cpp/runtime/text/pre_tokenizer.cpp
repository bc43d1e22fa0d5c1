// Loading and applying pre-tokenisers.
#include "runtime/text/pre_tokenizer.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "runtime/package/json.hpp"
#include "runtime/text/normalizer.hpp"
#include "runtime/text/unicode.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

using nlohmann::json;

constexpr std::string_view kPreTokenizer = "tokenizer.json: pre_tokenizer";

// GPT-2's words (Radford et al. 2019, encoder.py): contractions, letters, numbers and the rest with one space before
// them, and white space up to the last one before a word.
const Pattern& gpt2_pattern() {
  static const Pattern pattern =
      Pattern::compile(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
  return pattern;
}

[[noreturn]] void unsupported(std::string_view what, std::string_view name) {
  fail(ErrorCode::unsupported, kPreTokenizer, ": ", what, " \"", printable(name),
       "\" is not supported by the native tokenizer");
}

}  // namespace

PreTokenizer PreTokenizer::from_json(const json& value) {
  PreTokenizer result;
  if (!value.is_null()) result.add(value, 0);
  return result;
}

void PreTokenizer::add(const json& value, int depth) {
  if (steps_.size() >= kMaxTextSteps)
    fail(ErrorCode::unsupported, kPreTokenizer, ": more than ", kMaxTextSteps, " steps");
  const std::string type = json_string_at(value, "type", kPreTokenizer);
  if (depth > kMaxTextDepth) fail(ErrorCode::corrupt, kPreTokenizer, ": sequences are nested too deeply");
  if (type != "Sequence" && byte_level_) unsupported("after ByteLevel,", type);
  if (type == "Sequence") {
    for (const json& part : json_array(json_at(value, "pretokenizers", kPreTokenizer), kPreTokenizer))
      add(part, depth + 1);
  } else if (type == "ByteLevel") {
    byte_level_ = true;
    steps_.emplace_back(ByteLevel{json_bool_or(value, "add_prefix_space", true, kPreTokenizer),
                                  json_bool_or(value, "use_regex", true, kPreTokenizer)});
  } else if (type == "Digits") {
    steps_.emplace_back(Digits{json_bool_or(value, "individual_digits", false, kPreTokenizer)});
  } else if (type == "Split") {
    static constexpr std::pair<std::string_view, Behavior> behaviors[] = {
        {"Removed", Behavior::removed},
        {"Isolated", Behavior::isolated},
        {"MergedWithPrevious", Behavior::merged_with_previous},
        {"MergedWithNext", Behavior::merged_with_next},
        {"Contiguous", Behavior::contiguous}};
    const std::string name = json_string_at(value, "behavior", kPreTokenizer);
    const auto* behavior = std::find_if(std::begin(behaviors), std::end(behaviors),
                                        [&](const auto& entry) { return entry.first == name; });
    if (behavior == std::end(behaviors)) unsupported("Split with behavior", name);
    steps_.emplace_back(Split{pattern_from_json(json_at(value, "pattern", kPreTokenizer), kPreTokenizer),
                              behavior->second, json_bool_or(value, "invert", false, kPreTokenizer)});
  } else if (type == "Metaspace") {
    const std::string replacement = character_from_json(value, "replacement", kPreTokenizer);
    using Prepend = Metaspace::Prepend;
    Prepend prepend = json_bool_or(value, "add_prefix_space", true, kPreTokenizer) ? Prepend::always : Prepend::never;
    if (const json* scheme = json_find(value, "prepend_scheme")) {
      const std::string& name = json_string(*scheme, kPreTokenizer);
      if (name != "always" && name != "first" && name != "never") unsupported("Metaspace with prepend_scheme", name);
      prepend = name == "always" ? Prepend::always : name == "first" ? Prepend::first : Prepend::never;
    }
    steps_.emplace_back(Metaspace{replacement, prepend, json_bool_or(value, "split", true, kPreTokenizer),
                                  Pattern::literal(replacement)});
  } else {
    unsupported("component", type);
  }
}

void PreTokenizer::merge(std::vector<Piece>& pieces, Behavior behavior) {
  // Which neighbours become one word; `match` keeps its meaning only while this runs.
  std::vector<Piece> merged;
  bool previous = false;
  switch (behavior) {
    case Behavior::isolated:
      return;
    case Behavior::removed:
      std::erase_if(pieces, [](const Piece& piece) { return piece.match; });
      return;
    case Behavior::contiguous:
      for (const Piece& piece : pieces) {
        if (!merged.empty() && piece.match == previous) {
          merged.back().end = piece.end;
        } else {
          merged.push_back(piece);
        }
        previous = piece.match;
      }
      break;
    case Behavior::merged_with_previous:
      for (const Piece& piece : pieces) {
        if (piece.match && !previous && !merged.empty()) {
          merged.back().end = piece.end;
        } else {
          merged.push_back(piece);
        }
        previous = piece.match;
      }
      break;
    case Behavior::merged_with_next:
      for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
        if (piece->match && !previous && !merged.empty()) {
          merged.back().begin = piece->begin;
        } else {
          merged.push_back(*piece);
        }
        previous = piece->match;
      }
      std::reverse(merged.begin(), merged.end());
      break;
  }
  pieces = std::move(merged);
}

// matcher(text) is a function of a place: the end of the match there, or Pattern::npos.
template <class Matcher>
void PreTokenizer::split_by(Words& words, Behavior behavior, bool invert, Matcher&& matcher) {
  std::vector<std::string_view> result;
  std::vector<Piece> pieces;
  bool first = true;
  for (const std::string_view text : words.views) {
    pieces.clear();
    auto match_end = matcher(text);
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = match_end(at);
      if (end == Pattern::npos) {
        (void)next_code_point(text, at);
        continue;
      }
      if (done != at) pieces.push_back({done, at, invert});
      pieces.push_back({at, end, !invert});
      done = at = end;
    }
    if (done != text.size()) pieces.push_back({done, text.size(), invert});
    merge(pieces, behavior);
    if (first && (pieces.empty() || pieces.front().begin != 0)) words.at_start = false;
    first = false;
    for (const Piece& piece : pieces) result.push_back(text.substr(piece.begin, piece.end - piece.begin));
  }
  words.views = std::move(result);
}

void PreTokenizer::split(Words& words, Behavior behavior, bool invert, const Pattern& pattern) {
  split_by(words, behavior, invert, [&](std::string_view text) {
    return [scan = PatternScan(pattern, text)](std::size_t at) mutable { return scan.match(at); };
  });
}

void PreTokenizer::run(const Split& step, Words& words, TextBudget&) const {
  split(words, step.behavior, step.invert, step.pattern);
}

void PreTokenizer::run(const Digits& step, Words& words, TextBudget&) const {
  split_by(words, step.individual ? Behavior::isolated : Behavior::contiguous, false, [](std::string_view text) {
    return [text](std::size_t at) { return is_in(next_code_point(text, at), kNumbers) ? at : Pattern::npos; };
  });
}

void PreTokenizer::run(const Metaspace& step, Words& words, TextBudget& budget) const {
  for (std::size_t i = 0; i < words.views.size(); ++i) {
    std::string text;
    for (const char c : words.views[i]) {
      if (c == ' ') {
        text += step.replacement;
      } else {
        text += c;
      }
    }
    const bool prepend = step.prepend == Metaspace::Prepend::always ||
                         (step.prepend == Metaspace::Prepend::first && i == 0 && words.at_start);
    if (prepend && !text.starts_with(step.replacement)) text.insert(0, step.replacement);
    budget.spend(text.size(), kPreTokenizer);
    words.views[i] = words.texts.emplace_back(std::move(text));
  }
  if (step.split) split(words, Behavior::merged_with_next, false, step.pattern);
}

void PreTokenizer::run(const ByteLevel& step, Words& words, TextBudget& budget) const {
  if (step.add_prefix_space) {
    for (std::string_view& view : words.views) {
      if (view.starts_with(' ')) continue;
      budget.spend(view.size() + 1, kPreTokenizer);
      view = words.texts.emplace_back(1, ' ').append(view);
    }
  }
  if (step.use_regex) split(words, Behavior::isolated, false, gpt2_pattern());
}

void PreTokenizer::apply(Words& words, TextBudget& budget) const {
  std::erase_if(words.views, [](std::string_view view) { return view.empty(); });
  for (const Step& step : steps_) {
    std::visit([&](const auto& part) { run(part, words, budget); }, step);
  }
}

}  // namespace mambasdk::runtime
