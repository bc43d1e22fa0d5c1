// Loading and applying decoders.
#include "runtime/text/decoder.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.hpp"
#include "runtime/package/json.hpp"
#include "runtime/text/bpe.hpp"
#include "runtime/text/normalizer.hpp"
#include "runtime/text/overloaded.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

using nlohmann::json;

constexpr std::string_view kDecoder = "tokenizer.json: decoder";

// <0x0A> is the byte 10.
std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  unsigned value = 0;
  for (const char c : token.substr(3, 2)) {
    const char lower = static_cast<char>(c | 0x20);
    if (c >= '0' && c <= '9') {
      value = value * 16 + static_cast<unsigned>(c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      value = value * 16 + static_cast<unsigned>(lower - 'a' + 10);
    } else {
      return std::nullopt;
    }
  }
  return static_cast<char>(value);
}

std::string replace_text(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t place = text.find(from, at);
    result += text.substr(at, place - at);
    if (place == std::string_view::npos) break;
    result += to;
    at = place + from.size();
  }
  return result;
}

// Up to `count` of `character` cut from the start of `text`; returns how many.
std::size_t cut_start(std::string_view& text, std::string_view character, std::size_t count) {
  std::size_t cut = 0;
  for (; cut < count && text.starts_with(character); ++cut) text.remove_prefix(character.size());
  return cut;
}

// What a token of a byte-level vocabulary adds to the text.
TokenText as_bytes(const SpelledToken& token) {
  if (token.kind == SpelledToken::Kind::added) return {token.spelling, {}};
  std::optional<std::string> bytes = byte_alphabet().decode(token.spelling);
  if (!bytes) return {token.spelling, {}};
  const bool choice = token.kind == SpelledToken::Kind::both && *bytes != token.spelling;
  return {std::move(*bytes), choice ? token.spelling : ""};
}

std::vector<SpelledToken> joined(const std::vector<SpelledToken>& tokens) {
  SpelledToken text;
  for (const SpelledToken& token : tokens) text.spelling += token.spelling;
  return {std::move(text)};
}

std::vector<SpelledToken> join_fallback_bytes(std::vector<SpelledToken> tokens) {
  std::vector<SpelledToken> result;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (find_invalid_utf8(bytes) == std::string::npos) {
      result.push_back({bytes});
    } else {  // the reference gives one replacement character per byte of the run
      for (std::size_t i = 0; i < bytes.size(); ++i) append_utf8(result.emplace_back().spelling, kReplacementCharacter);
    }
    bytes.clear();
  };
  for (SpelledToken& token : tokens) {
    if (const auto byte = fallback_byte(token.spelling)) {
      bytes += *byte;
    } else {
      flush();
      result.push_back(std::move(token));
    }
  }
  flush();
  return result;
}

// A Strip of one token.
std::string stripped(std::string_view text, std::string_view character, std::size_t start, std::size_t stop) {
  (void)cut_start(text, character, start);
  for (std::size_t i = 0; i < stop && text.ends_with(character); ++i) text.remove_suffix(character.size());
  return std::string(text);
}

}  // namespace

Decoder Decoder::from_json(const json& value) {
  Decoder decoder;
  if (value.is_null()) {
    decoder.join_with_spaces_ = true;
  } else {
    decoder.add(value, 0);
    decoder.check_order();
  }
  return decoder;
}

void Decoder::add(const json& value, int depth) {
  if (steps_.size() >= kMaxTextSteps) fail(ErrorCode::unsupported, kDecoder, ": more than ", kMaxTextSteps, " steps");
  const std::string type = json_string_at(value, "type", kDecoder);
  if (depth > kMaxTextDepth) fail(ErrorCode::corrupt, kDecoder, ": sequences are nested too deeply");
  if (type == "Sequence") {
    for (const json& part : json_array(json_at(value, "decoders", kDecoder), kDecoder)) add(part, depth + 1);
  } else if (type == "ByteLevel") {
    steps_.emplace_back(ByteLevel{});
  } else if (type == "ByteFallback") {
    steps_.emplace_back(ByteFallback{});
  } else if (type == "Fuse") {
    steps_.emplace_back(Fuse{});
  } else if (type == "Replace") {
    steps_.emplace_back(Replace{pattern_from_json(json_at(value, "pattern", kDecoder), kDecoder),
                                json_string_at(value, "content", kDecoder)});
  } else if (type == "Metaspace") {
    const bool prefix = json_bool_or(value, "add_prefix_space", true, kDecoder);
    const std::string scheme = json_string_or(value, "prepend_scheme", prefix ? "always" : "never", kDecoder);
    const std::string replacement = character_from_json(value, "replacement", kDecoder);
    steps_.emplace_back(Metaspace{replacement, scheme != "never"});
  } else if (type == "Strip") {
    const std::string character = character_from_json(value, "content", kDecoder);
    const std::int64_t start = json_int(json_at(value, "start", kDecoder), kDecoder);
    const std::int64_t stop = json_int(json_at(value, "stop", kDecoder), kDecoder);
    if (start < 0 || stop < 0) fail(ErrorCode::corrupt, kDecoder, ": malformed Strip");
    steps_.emplace_back(Strip{character, static_cast<std::size_t>(start), static_cast<std::size_t>(stop)});
  } else {
    fail(ErrorCode::unsupported, kDecoder, ": \"", printable(type), "\" is not supported by the native tokenizer");
  }
}

// Streaming decodes token by token: after the tokens are joined only a cut at the start of the text can follow.
void Decoder::check_order() {
  bool fused = false, bytes = false;
  const auto refuse = [](std::string_view what) {
    fail(ErrorCode::unsupported, kDecoder, ": ", what, " is not supported by the native tokenizer");
  };
  for (const Step& step : steps_) {
    std::visit(Overloaded{[&](const ByteLevel&) {
                            if (bytes || fused) refuse("ByteLevel after ByteLevel, ByteFallback or Fuse");
                            bytes = fused = true;
                          },
                          [&](const ByteFallback&) {
                            if (bytes || fused) refuse("ByteFallback after ByteLevel, ByteFallback or Fuse");
                            bytes = true;
                          },
                          [&](const Fuse&) { fused = true; },
                          [&](const Replace&) {
                            if (bytes || fused) refuse("Replace after ByteLevel, ByteFallback or Fuse");
                          },
                          [&](const Metaspace&) {
                            if (bytes || fused) refuse("Metaspace after ByteLevel, ByteFallback or Fuse");
                          },
                          [&](const Strip& strip) {
                            if (!fused && bytes) refuse("Strip between ByteFallback and Fuse");
                            if (!fused) return;
                            if (strip.stop != 0) refuse("Strip at the end of the text");
                            if (leading_cut_.count != 0) refuse("a second Strip of the text");
                            leading_cut_ = {strip.character, strip.start};
                          }},
               step);
  }
}

std::string Decoder::decode(std::vector<SpelledToken> tokens) const {
  std::size_t size = 0;
  for (const SpelledToken& token : tokens) size += token.spelling.size();
  TextBudget budget(size);
  for (const Step& step : steps_) {
    std::visit(Overloaded{[&](const ByteLevel&) {
                            SpelledText text;
                            for (const SpelledToken& token : tokens) text.add(as_bytes(token));
                            tokens = {{text.take(/*at_end=*/true)}};
                          },
                          [&](const ByteFallback&) { tokens = join_fallback_bytes(std::move(tokens)); },
                          [&](const Fuse&) { tokens = joined(tokens); },
                          [&](const Replace& replace) {
                            for (SpelledToken& token : tokens) {
                              token.spelling =
                                  replace_all(token.spelling, replace.pattern, replace.content, budget, kDecoder);
                            }
                          },
                          [&](const Metaspace& meta) {
                            for (std::size_t i = 0; i < tokens.size(); ++i) {
                              tokens[i].spelling = replace_text(tokens[i].spelling, meta.replacement,
                                                                i == 0 && meta.cut_first ? "" : " ");
                            }
                          },
                          [&](const Strip& strip) {
                            for (SpelledToken& token : tokens) {
                              token.spelling = stripped(token.spelling, strip.character, strip.start, strip.stop);
                            }
                          }},
               step);
  }
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i != 0 && join_with_spaces_) text += ' ';
    text += tokens[i].spelling;
  }
  return text;
}

TokenText Decoder::token_text(SpelledToken token, bool first) const {
  std::string& text = token.spelling;
  if (join_with_spaces_) return {first ? text : std::string(1, ' ').append(text), {}};
  TextBudget budget(text.size());
  std::optional<TokenText> bytes;
  for (const Step& step : steps_) {
    bool joins = false;
    std::visit(Overloaded{[&](const ByteLevel&) { bytes = as_bytes(token), joins = true; },
                          [&](const ByteFallback&) {
                            if (const auto byte = fallback_byte(text)) text.assign(1, *byte);
                          },
                          [&](const Fuse&) { joins = true; },
                          [&](const Replace& replace) {
                            text = replace_all(text, replace.pattern, replace.content, budget, kDecoder);
                          },
                          [&](const Metaspace& meta) {
                            text = replace_text(text, meta.replacement, first && meta.cut_first ? "" : " ");
                          },
                          [&](const Strip& strip) { text = stripped(text, strip.character, strip.start, strip.stop); }},
               step);
    if (joins) break;  // what follows concerns the whole text: leading_cut()
  }
  return bytes ? std::move(*bytes) : TokenText{std::move(text), {}};
}

}  // namespace mambasdk::runtime
