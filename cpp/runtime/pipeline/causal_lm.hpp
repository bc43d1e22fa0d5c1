// The head `causal_lm` of language models: takes the tokens of a prompt, writes its continuation.
#pragma once

#include "runtime/pipeline/kind.hpp"

namespace mambasdk::runtime {

// Its options, of a package and of a run: max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed,
// stop. Takes `tokens`, i32 (1, L), as the processors of text make them; emits `text` u8 (n) and
// json {"text", "prompt_tokens", "new_tokens"}.
[[nodiscard]] ProcessorKind causal_lm_head();

}  // namespace mambasdk::runtime
