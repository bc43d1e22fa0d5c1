// The built-in processors `bytes` and `tokenizer`: text to token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/pipeline/kind.hpp"
#include "runtime/text/tokenizer.hpp"

namespace mambasdk::runtime {

[[nodiscard]] std::vector<ProcessorKind> text_processors();

// The ids in what they emit. Error(invalid_argument) for another tensor.
[[nodiscard]] std::span<const std::int32_t> tokens_of(const Tensor& tensor);

// The tokenizer of the package's slot `text`. Error(unsupported) where it has none, or one of another kind.
[[nodiscard]] std::unique_ptr<Tokenizer> package_tokenizer(const Package& package);

}  // namespace mambasdk::runtime
