// Completing characters.
#include "runtime/text/spelled_text.hpp"

#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {

void SpelledText::add(const TokenText& token) {
  const std::size_t begin = pending_.size();
  pending_ += token.bytes;
  if (!token.otherwise.empty()) choices_.push_back({begin, pending_.size(), token.otherwise});
}

std::string SpelledText::take(bool at_end) {
  std::string text;
  std::size_t at = 0;
  while (at < pending_.size()) {
    while (!choices_.empty() && choices_.front().begin < at) choices_.pop_front();
    const Utf8Piece piece = read_utf8(std::string_view(pending_).substr(at));
    if (piece.status == Utf8Status::incomplete && !at_end) break;
    if (piece.status == Utf8Status::complete) {
      text.append(pending_, at, piece.length);
      at += piece.length;
    } else if (!choices_.empty() && choices_.front().begin == at) {
      text += choices_.front().otherwise;
      at = choices_.front().end;
    } else {
      append_utf8(text, kReplacementCharacter);
      at += piece.length;
    }
  }
  cut(at);
  return text;
}

void SpelledText::cut(std::size_t bytes) {
  pending_.erase(0, bytes);
  while (!choices_.empty() && choices_.front().begin < bytes) choices_.pop_front();
  for (Choice& choice : choices_) {
    choice.begin -= bytes;
    choice.end -= bytes;
  }
}

}  // namespace mambasdk::runtime
