// Shapes with named dims ("B", "L"), and their values in one call.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.hpp"
#include "runtime/package/manifest.hpp"

namespace mambasdk::runtime {

using Symbols = std::map<std::string, std::int64_t, std::less<>>;

// Binds the symbols of `specs` to the extents of `tensors`. Throws Error(invalid_argument) naming the input.
[[nodiscard]] Symbols bind_symbols(const std::vector<TensorSpec>& specs, std::span<const Tensor> tensors);
[[nodiscard]] std::int64_t symbol_value(const Symbols& symbols, const Dimension& d);

// Throws Error(corrupt) where an output is not what the package states of it: another dtype, or another shape as far as
// the stated extents are numbers or known symbols.
void check_output(const TensorSpec& spec, const Tensor& made, const Symbols& symbols);

// "f32 (B, L, 256)".
[[nodiscard]] std::string spec_text(const TensorSpec& spec);

}  // namespace mambasdk::runtime
