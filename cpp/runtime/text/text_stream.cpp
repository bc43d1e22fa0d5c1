// Streaming decoding.
#include "runtime/text/tokenizer.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {

TextStream::TextStream(const Tokenizer& tokenizer, bool skip_special, bool at_start)
    : tokenizer_(&tokenizer),
      skip_special_(skip_special),
      first_(at_start),
      cut_(at_start ? tokenizer.leading_cut().count : 0) {}

std::string TextStream::push(std::int32_t id) {
  if (skip_special_ && tokenizer_->is_special(id)) return "";
  const std::optional<std::string> bytes = tokenizer_->token_bytes(id, first_);
  if (!bytes) return "";
  first_ = false;
  pending_ += *bytes;

  const std::string_view cut = tokenizer_->leading_cut().character;
  while (cut_ > 0) {
    if (pending_.size() < cut.size() && cut.starts_with(pending_)) return "";
    if (!pending_.starts_with(cut)) {
      cut_ = 0;
      break;
    }
    pending_.erase(0, cut.size());
    --cut_;
  }

  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Utf8Piece piece = read_utf8(rest);
    if (piece.status == Utf8Status::incomplete) break;
    if (piece.status == Utf8Status::complete) {
      text += rest.substr(0, piece.length);
    } else {
      append_utf8(text, kReplacementCharacter);
    }
    rest.remove_prefix(piece.length);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return text;
}

std::string TextStream::finish() {
  std::string text;
  if (!pending_.empty()) append_utf8(text, kReplacementCharacter);
  pending_.clear();
  return text;
}

}  // namespace mambasdk::runtime
