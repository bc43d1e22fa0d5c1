// Decoders of tokenizer.json: from tokens back to text.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/text/pattern.hpp"
#include "runtime/text/spelled_text.hpp"
#include "runtime/text/text_budget.hpp"

namespace mambasdk::runtime {

// A token as its tokenizer.json spells it. Added tokens are plain text, where byte-level vocabularies spell bytes.
struct SpelledToken {
  enum class Kind {
    vocabulary,
    added,
    both,  // added under the id that the vocabulary has for the same spelling: bytes where these make a character
  };
  std::string spelling;
  Kind kind = Kind::vocabulary;
};

class Decoder {
 public:
  // null: tokens are joined by spaces. Errors: unsupported (naming the component or an order of components that no
  // token-by-token decoder can follow), corrupt.
  [[nodiscard]] static Decoder from_json(const nlohmann::json& value);

  // The whole text, valid UTF-8, as the `tokenizers` package decodes it, but for added tokens of byte-level
  // vocabularies, which are what they say. Errors: unsupported (replacements that make too much of the tokens).
  [[nodiscard]] std::string decode(std::vector<SpelledToken> tokens) const;

  // What one token adds to the text. first: it starts the text.
  [[nodiscard]] TokenText token_text(SpelledToken token, bool first) const;

  // What is cut from the start of the joined text: up to `count` of `character`.
  struct LeadingCut {
    std::string character;
    std::size_t count = 0;
  };
  [[nodiscard]] const LeadingCut& leading_cut() const noexcept { return leading_cut_; }

 private:
  struct ByteLevel {};
  struct ByteFallback {};
  struct Fuse {};
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct Metaspace {
    std::string replacement;
    bool cut_first;
  };
  struct Strip {
    std::string character;
    std::size_t start, stop;
  };
  using Step = std::variant<ByteLevel, ByteFallback, Fuse, Replace, Metaspace, Strip>;

  void add(const nlohmann::json& value, int depth);
  void check_order();

  std::vector<Step> steps_;
  bool join_with_spaces_ = false;
  LeadingCut leading_cut_;
};

}  // namespace mambasdk::runtime
