// The tokenizer of byte-level models: token id = byte value, and perhaps one token more, the mask.
#include <algorithm>

#include "runtime/text/tokenizer.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

constexpr std::int32_t kMask = 256;

class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(std::string_view mask) : mask_(mask) {}

  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text, bool) const override {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size());
    while (!text.empty()) {
      const std::size_t plain = mask_.empty() ? text.size() : std::min(text.find(mask_), text.size());
      for (const char c : text.substr(0, plain)) ids.push_back(static_cast<unsigned char>(c));
      text.remove_prefix(plain);
      if (text.empty()) break;
      ids.push_back(kMask);
      text.remove_prefix(mask_.size());
    }
    return ids;
  }
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override {
    std::string bytes;
    for (const std::int32_t id : ids) {
      if (id >= 0 && id <= 255) bytes += static_cast<char>(static_cast<unsigned char>(id));
      if (is_special(id) && !skip_special) bytes += mask_;
    }
    return to_valid_utf8(bytes);
  }
  [[nodiscard]] std::optional<TokenText> token_text(std::int32_t id, bool) const override {
    if (is_special(id)) return TokenText{mask_, {}};
    if (id < 0 || id > 255) return std::nullopt;
    return TokenText{std::string(1, static_cast<char>(static_cast<unsigned char>(id))), {}};
  }
  [[nodiscard]] std::int32_t vocab_size() const override { return mask_.empty() ? 256 : kMask + 1; }
  [[nodiscard]] std::optional<std::int32_t> token_to_id(std::string_view token) const override {
    if (!mask_.empty() && token == mask_) return kMask;
    if (token.size() != 1) return std::nullopt;
    return static_cast<unsigned char>(token[0]);
  }
  [[nodiscard]] bool is_special(std::int32_t id) const override { return id == kMask && !mask_.empty(); }

 private:
  std::string mask_;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::bytes(std::string_view mask) {
  return std::make_unique<ByteTokenizer>(mask);
}

}  // namespace mambasdk::runtime
