// Text in, text out: prompt, then one token at a time until a stop string, the end token or the limit.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine/engine.hpp"
#include "runtime/sampling/sampler.hpp"
#include "runtime/text/tokenizer.hpp"

namespace mambasdk::runtime {

struct GenerateOptions {
  SamplingOptions sampling;
  std::int64_t max_new_tokens = 128;
  std::vector<std::string> stop;         // the text ends before the first of these
  std::vector<std::int32_t> end_tokens;  // any of them ends the text; ascending
  // Whole UTF-8 characters; false stops. What it throws leaves generate, with the session as it was.
  std::function<bool(std::string_view)> on_text;
};

struct GenerateResult {
  std::int64_t prompt_tokens = 0;
  std::int64_t new_tokens = 0;
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
};

// Holds back text that may be the beginning of a stop string.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stop) : stop_(std::move(stop)) {}
  // Text that is safe to show now. `stopped()` turns true when a stop string is complete.
  [[nodiscard]] std::string push(std::string_view text);
  [[nodiscard]] std::string finish() { return std::exchange(held_, {}); }
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

 private:
  std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

// Throws Error(unsupported) where a model states that it takes no tokens, i32 (B, L), or has no last_logits.
void check_generates_text(const Model& model);

// Feeds the prompt in chunks, so that memory does not grow with its length. The session's state goes on from where it
// is and afterwards includes every token but the last one sampled; it is as it was if this throws. Errors:
// invalid_argument for an empty prompt or an option out of range, corrupt for logits that are not f32 (1, vocabulary).
GenerateResult generate(Session& session, const Tokenizer& tokenizer, std::span<const std::int32_t> prompt,
                        const GenerateOptions& options);
// The same for a text.
GenerateResult generate(Session& session, const Tokenizer& tokenizer, std::string_view prompt,
                        const GenerateOptions& options);

}  // namespace mambasdk::runtime
