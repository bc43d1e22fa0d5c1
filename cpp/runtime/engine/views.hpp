// Views of a tensor, for which no data moves; and the copy for where a view will not do.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "core/tensor.hpp"

namespace mambasdk::runtime {

// Every `step`th entry of `length` ones. `dim` and `start` may be negative (from the end). Throws
// Error(invalid_argument) when out of range.
[[nodiscard]] Tensor slice_view(const Tensor& t, std::int64_t dim, std::int64_t start, std::int64_t length,
                                std::int64_t step = 1);
[[nodiscard]] Tensor permute_view(const Tensor& t, std::span<const std::int64_t> dims);
// One extent may be -1. Throws where the element count differs or the strides do not allow a view.
[[nodiscard]] Tensor reshape_view(const Tensor& t, std::span<const std::int64_t> shape);

// As torch's expand: dims of extent 1, and new ones in front, repeat without memory; an extent of -1 keeps the dim's
// own. Throws where another extent differs, or for more elements than kMostElements.
[[nodiscard]] Tensor expand_view(const Tensor& t, std::span<const std::int64_t> shape);
inline constexpr std::int64_t kMostElements = std::int64_t{1} << 45;

// Writes the elements in row-major order to `to`.
void copy_strided(const Tensor& from, void* to);

}  // namespace mambasdk::runtime
