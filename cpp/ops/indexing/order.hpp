// Elements as integers that are ordered as they are, so that sorting never compares floating-point numbers: NaN is
// above all, -0 equals 0. A key of 64 bits has the element's rank first and its place last, so that equals keep their
// order.
#pragma once

#include <cstdint>

#include "core/element.hpp"
#include "core/tensor.hpp"
#include "ops/rows.hpp"

namespace mambasdk::indexing {

inline std::uint32_t rank_of(float x) {
  if (x != x) return 0xffffffffu;
  const auto bits = detail::bit_cast<std::uint32_t>(x + 0.0f);  // -0 + 0 = 0
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Keys of the n elements of a row of float32, bfloat16 or float16, whose ascending order is the one asked for.
template <class T>
void keys_of(const T* row, std::int64_t stride, std::int64_t n, bool descending, std::uint64_t* keys) {
  const std::uint32_t flip = descending ? 0xffffffffu : 0u;
  for (std::int64_t i = 0; i < n; ++i) {
    keys[i] = std::uint64_t{rank_of(to_float(row[i * stride])) ^ flip} << 32 | static_cast<std::uint64_t>(i);
  }
}

// f(a value of the C++ type of `type`).
template <class F>
void with_float_type(DType type, F&& f) {
  if (type == dtype::f32) return f(float{});
  if (type == dtype::bf16) return f(bf16{});
  return f(f16{});
}

// Whether double a stands before b, NaN above all.
inline bool is_before(double a, double b, bool descending) {
  if (descending) return b != b ? false : a != a || a > b;
  return a != a ? false : b != b || a < b;
}

}  // namespace mambasdk::indexing
