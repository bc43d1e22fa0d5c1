// The built-in pieces: processors `bytes` and `tokenizer` (text to token ids), and what the head `causal_lm` says when
// it is asked for by itself.
#pragma once

#include <memory>
#include <vector>

#include "runtime/pipeline/processor.hpp"
#include "runtime/text/tokenizer.hpp"

namespace mambasdk::runtime {

[[nodiscard]] std::vector<ProcessorKind> text_kinds();

// The tokenizer of the package's slot `text`. Error(unsupported) where it has none, or one of another kind.
[[nodiscard]] std::unique_ptr<Tokenizer> package_tokenizer(const Package& package);

}  // namespace mambasdk::runtime
