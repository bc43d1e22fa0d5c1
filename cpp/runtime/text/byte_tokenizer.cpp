// The tokenizer of byte-level models: token id = byte value.
#include "runtime/text/tokenizer.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text, bool) const override {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size());
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids, bool) const override {
    std::string bytes;
    for (const std::int32_t id : ids) {
      if (id >= 0 && id <= 255) bytes += static_cast<char>(static_cast<unsigned char>(id));
    }
    return to_valid_utf8(bytes);
  }
  [[nodiscard]] std::optional<TokenText> token_text(std::int32_t id, bool) const override {
    if (id < 0 || id > 255) return std::nullopt;
    return TokenText{std::string(1, static_cast<char>(static_cast<unsigned char>(id))), {}};
  }
  [[nodiscard]] std::int32_t vocab_size() const override { return 256; }
  [[nodiscard]] std::optional<std::int32_t> token_to_id(std::string_view token) const override {
    if (token.size() != 1) return std::nullopt;
    return static_cast<unsigned char>(token[0]);
  }
  [[nodiscard]] bool is_special(std::int32_t) const override { return false; }
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::bytes() {
  return std::make_unique<ByteTokenizer>();
}

}  // namespace mambasdk::runtime
