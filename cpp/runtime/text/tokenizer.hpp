// Text to token ids and back: Hugging Face tokenizer.json (BPE models), or plain bytes.
//
// A tokenizer is immutable and may be used by many threads at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/text/spelled_text.hpp"

namespace mambasdk::runtime {

class Tokenizer {
 public:
  // Errors: not_found, io, corrupt, unsupported (naming the component of tokenizer.json that is not known).
  [[nodiscard]] static std::unique_ptr<Tokenizer> from_file(const std::filesystem::path& path);
  [[nodiscard]] static std::unique_ptr<Tokenizer> from_json(std::string_view text,
                                                            std::string_view source = "tokenizer.json");
  // Token id = byte value. mask: the spelling of one special token more, whose id is 256; empty: there is none.
  [[nodiscard]] static std::unique_ptr<Tokenizer> bytes(std::string_view mask = {});

  virtual ~Tokenizer() = default;

  // add_special: with the tokens that the post-processor puts around the text (bos, eos). A tokenizer.json wants valid
  // UTF-8 (error: invalid_argument, with the offset); bytes() takes any text.
  [[nodiscard]] virtual std::vector<std::int32_t> encode(std::string_view text, bool add_special) const = 0;

  // Valid UTF-8: what the tokens do not spell out becomes U+FFFD. Ids without a token are passed over.
  [[nodiscard]] virtual std::string decode(std::span<const std::int32_t> ids, bool skip_special) const = 0;

  // What a token adds to decoded text. first: at the start of the text. nullopt if there is no such token.
  [[nodiscard]] virtual std::optional<TokenText> token_text(std::int32_t id, bool first = false) const = 0;
  // Its bytes alone, which may be part of a character.
  [[nodiscard]] std::optional<std::string> token_bytes(std::int32_t id, bool first = false) const {
    std::optional<TokenText> text = token_text(id, first);
    return text ? std::optional(std::move(text->bytes)) : std::nullopt;
  }

  // Largest id + 1.
  [[nodiscard]] virtual std::int32_t vocab_size() const = 0;
  // By its spelling in tokenizer.json; for bytes() a text of one byte, or the mask.
  [[nodiscard]] virtual std::optional<std::int32_t> token_to_id(std::string_view token) const = 0;
  [[nodiscard]] virtual bool is_special(std::int32_t id) const = 0;

  // What the decoder cuts from the start of a text: up to `count` times `character`.
  struct LeadingCut {
    std::string_view character;
    std::size_t count = 0;
  };
  [[nodiscard]] virtual LeadingCut leading_cut() const { return {}; }
};

// Decodes a growing sequence of tokens. The pieces, put together, are decode() of all ids wherever these spell valid
// UTF-8; a character that tokens share comes out with the last of them.
class TextStream {
 public:
  // The tokenizer must outlive the stream. at_start: the tokens begin a text, whose leading space some tokenizers made
  // up and cut again here; false where they continue a text that is already shown (a prompt).
  explicit TextStream(const Tokenizer& tokenizer, bool skip_special = true, bool at_start = true);

  // The text that is complete with this token; may be empty.
  [[nodiscard]] std::string push(std::int32_t id);
  // What is left at the end: U+FFFD for a character that was never completed, else nothing.
  [[nodiscard]] std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool first_;
  std::size_t cut_;      // leading characters still to be cut
  SpelledText pending_;  // bytes that await the rest of their character, or of a leading cut
};

}  // namespace mambasdk::runtime
