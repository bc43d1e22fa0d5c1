// How much text the steps of a tokenizer.json may make of a text: replacements that feed on one another double it with
// every step.
#pragma once

#include <cstddef>
#include <string_view>

#include "core/error.hpp"

namespace mambasdk::runtime {

// Steps of a normaliser, a pre-tokeniser or a decoder, nested ones included.
inline constexpr std::size_t kMaxTextSteps = 32;
inline constexpr int kMaxTextDepth = 16;  // nested sequences of steps
// Bytes of an added token or of a vocabulary's token: what is looked for at every place of a text, and what each id of
// a decoded text may become.
inline constexpr std::size_t kMaxTokenBytes = 4096;

class TextBudget {
 public:
  static constexpr std::size_t kGrowth = 256;  // bytes that all steps together may write for each byte of the text
  static constexpr std::size_t kSlack = 4096;

  explicit TextBudget(std::size_t text_bytes) : text_(text_bytes), left_(text_bytes * kGrowth + kSlack) {}

  // Before `bytes` are written. Errors: unsupported.
  void spend(std::size_t bytes, std::string_view where) {
    if (bytes > left_) {
      fail(ErrorCode::unsupported, where, ": its steps make more than ", kGrowth, " times as much of a text of ", text_,
           " bytes, which the native tokenizer refuses; check the replacements");
    }
    left_ -= bytes;
  }

 private:
  std::size_t text_;
  std::size_t left_;
};

}  // namespace mambasdk::runtime
