// The head `fill_mask` of text encoders: what belongs in the places that a text leaves open.
#pragma once

#include "runtime/pipeline/kind.hpp"

namespace mambasdk::runtime {

// Its option, of a package and of a run: top_k (5). The mask is spelled as `mask_token` of the slot `text` says. Takes
// `tokens` i32 (1, L), as the processors of text make them, and the model's `logits` f32 (1, L, V); emits
// json {"text": with the best token in each place, "fills": [{"mask", "index", "token", "score"}]}, best first for each
// mask in the order of the text, and `text` u8 (n).
[[nodiscard]] ProcessorKind fill_mask_head();

}  // namespace mambasdk::runtime
