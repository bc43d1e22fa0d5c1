// The heads of models that say something about a whole text: which class it is of, or numbers.
#pragma once

#include "runtime/pipeline/kind.hpp"

namespace mambasdk::runtime {

// Takes the model's `logits` f32 (1, C). Options: labels (names by index), activation ("softmax", "sigmoid", "none"),
// top_k (5), which a run may override. Emits json {"labels": [{"index", "label", "score"}]}, best first, and
// `scores` f32 (C).
[[nodiscard]] ProcessorKind text_classification_head();

// Takes the model's `values` f32 (1, C). Option: labels (names by index). Emits
// json {"values": [{"index", "label", "score"}]} in the order of the model, and `scores` f32 (C).
[[nodiscard]] ProcessorKind text_regression_head();

}  // namespace mambasdk::runtime
