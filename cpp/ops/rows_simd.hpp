// Reading and writing rows of any float type as float32. For *.isa.cpp only.
#pragma once

#include "core/simd_types.hpp"
#include "kernels/transpose.hpp"
#include "ops/rows.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// for_lanes(n, f): f(i, count) for every vector of [0, n); the count is kLanes but in the last.
template <class F>
MAMBASDK_SIMD void for_lanes(std::int64_t n, F&& f) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
  if (i < n) f(i, static_cast<int>(n - i));
}

MAMBASDK_SIMD bool is_float(DType type) {
  return type == dtype::f32;
}

// n elements, at most a vector, `stride` apart; the rest is 0.
template <class T>
MAMBASDK_SIMD vf load_strided(const T* in, std::int64_t stride, int n) {
  if (stride == 1) return load_n(in, n);
  alignas(64) float buffer[kLanes] = {};
  for (int i = 0; i < n; ++i) buffer[i] = to_float(in[i * stride]);
  return load(static_cast<const float*>(buffer));
}

template <class T>
[[gnu::noinline]] void widen(const T* in, std::int64_t stride, float* out, std::int64_t n) {
  if (stride != 1) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = to_float(in[i * stride]);
    return;
  }
  for_lanes(n, [&](std::int64_t i, int count)
                   __attribute__((always_inline)) { store_n(out + i, load_n(in + i, count), count); });
}
template <class T>
[[gnu::noinline]] void narrow(const float* in, T* out, std::int64_t n) {
  for (; n >= 2 * kLanes; n -= 2 * kLanes, in += 2 * kLanes, out += 2 * kLanes)
    store_pair(out, load(in), load(in + kLanes));
  for_lanes(n, [&](std::int64_t i, int count)
                   __attribute__((always_inline)) { store_n(out + i, load_n(in + i, count), count); });
}

template <class T>
MAMBASDK_SIMD const T* row_of(const Rows& rows, std::int64_t r) {
  return static_cast<const T*>(rows.data) + (rows.offset != nullptr ? rows.offset[r] : r * rows.stride);
}

// Whether equal elements of kLanes rows from r on are side by side in memory, as in a view of a transposed matrix.
MAMBASDK_SIMD bool are_side_by_side(const Rows& rows, std::int64_t r) {
  if (rows.offset == nullptr) return rows.stride == 1;
  for (int i = 1; i < kLanes; ++i)
    if (rows.offset[r + i] != rows.offset[r] + i) return false;
  return true;
}
// Those kLanes rows of n elements, element j of the first at in[j * stride], to rows of `out` that are out_stride
// apart.
template <class T, class Out>
[[gnu::noinline]] void turn_rows(const T* in, std::int64_t stride, Out* out, std::int64_t out_stride, std::int64_t n) {
  std::int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    vf tile[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) tile[i] = load(in + (j + i) * stride);
    transpose(tile);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) store(out + i * out_stride + j, tile[i]);
  }
  for (; j < n; ++j) {
    const T* column = in + j * stride;
    for (int i = 0; i < kLanes; ++i) out[i * out_stride + j] = from_float<Out>::cast(to_float(column[i]));
  }
}

// Elements [first, first + n) of the row in float32: themselves where they are that already, else a copy in `buffer`.
MAMBASDK_SIMD const float* read_row(const Rows& rows, std::int64_t r, float* buffer, std::int64_t n,
                                    std::int64_t first = 0) {
  const std::int64_t start = first * rows.element_stride;
  if (is_float(rows.type) && rows.element_stride == 1) return row_of<float>(rows, r) + start;
  with_type(rows.type, [&]<class T>(T) __attribute__((always_inline)) {
    widen(row_of<T>(rows, r) + start, rows.element_stride, buffer, n);
  });
  return buffer;
}

// Where to compute n output elements from `first` on: in place when they are float32, else in `buffer`, for write_out.
MAMBASDK_SIMD float* output_at(void* out, DType type, std::int64_t first, float* buffer) {
  return is_float(type) ? static_cast<float*>(out) + first : buffer;
}
MAMBASDK_SIMD void write_out(const float* in, void* out, DType type, std::int64_t first, std::int64_t n) {
  with_type(type, [&]<class T>(T) __attribute__((always_inline)) {
    T* to = static_cast<T*>(out) + first;
    if (static_cast<const void*>(to) != in) narrow(in, to, n);
  });
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
