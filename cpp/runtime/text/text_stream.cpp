// Streaming decoding.
#include "runtime/text/tokenizer.hpp"

namespace mambasdk::runtime {

TextStream::TextStream(const Tokenizer& tokenizer, bool skip_special, bool at_start)
    : tokenizer_(&tokenizer),
      skip_special_(skip_special),
      first_(at_start),
      cut_(at_start ? tokenizer.leading_cut().count : 0) {}

std::string TextStream::push(std::int32_t id) {
  if (skip_special_ && tokenizer_->is_special(id)) return "";
  const std::optional<TokenText> token = tokenizer_->token_text(id, first_);
  if (!token) return "";
  first_ = false;
  pending_.add(*token);

  const std::string_view cut = tokenizer_->leading_cut().character;
  while (cut_ > 0) {
    if (pending_.pending().size() < cut.size() && cut.starts_with(pending_.pending())) return "";
    if (!pending_.pending().starts_with(cut)) {
      cut_ = 0;
      break;
    }
    pending_.cut(cut.size());
    --cut_;
  }
  return pending_.take(/*at_end=*/false);
}

std::string TextStream::finish() {
  return pending_.take(/*at_end=*/true);
}

}  // namespace mambasdk::runtime
