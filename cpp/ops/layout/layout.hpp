// Operations that move elements and change none: copies, joining, padding, mirroring; and the casts of indices.
#pragma once

#include "core/tensor.hpp"

namespace mambasdk {

class Context;
class Registry;
void register_layout(Registry& registry);

namespace layout {

void register_concat(Registry& registry);
void register_pad(Registry& registry);
void register_indices(Registry& registry);

// Copies one view to another of the same shape: strided_copy, or the reference's plain loops.
using Copy = void (*)(const Tensor& from, const Tensor& to, const Context& context);
void vector_copy(const Tensor& from, const Tensor& to, const Context& context);
void scalar_copy(const Tensor& from, const Tensor& to, const Context& context);

// Elements [start, start + length) along dim d, counted from the end where it is negative.
[[nodiscard]] Tensor part(const Tensor& t, int d, std::int64_t start, std::int64_t length);
// One element along dim d, as often as `length` says.
[[nodiscard]] Tensor repeated(const Tensor& t, int d, std::int64_t at, std::int64_t length);

}  // namespace layout
}  // namespace mambasdk
