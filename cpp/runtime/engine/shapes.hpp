// Shapes with named dims ("B", "L"), and their values in one call.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.hpp"
#include "runtime/package/manifest.hpp"

namespace mambasdk::runtime {

using Symbols = std::vector<std::pair<std::string, std::int64_t>>;

// Binds the symbols of `specs` to the extents of `tensors`. Throws Error(invalid_argument) naming the input.
[[nodiscard]] Symbols bind_symbols(const std::vector<TensorSpec>& specs, std::span<const Tensor> tensors);
[[nodiscard]] std::int64_t symbol_value(const Symbols& symbols, const Dimension& d);

}  // namespace mambasdk::runtime
