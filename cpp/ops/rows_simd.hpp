// Reading and writing rows of any float type as float32. For *.isa.cpp only.
#pragma once

#include "core/simd.hpp"
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
  return type.bits == 32;
}
MAMBASDK_SIMD bool is_bf16(DType type) {
  return type.code == 4;
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
  for_lanes(n, [&](std::int64_t i, int count)
                   __attribute__((always_inline)) { store_n(out + i, load_n(in + i, count), count); });
}

template <class T>
MAMBASDK_SIMD const T* row_of(const Rows& rows, std::int64_t r) {
  return static_cast<const T*>(rows.data) + (rows.offset != nullptr ? rows.offset[r] : r * rows.stride);
}

// Elements [first, first + n) of the row in float32: themselves where they are that already, else a copy in `buffer`.
MAMBASDK_SIMD const float* read_row(const Rows& rows, std::int64_t r, float* buffer, std::int64_t n,
                                    std::int64_t first = 0) {
  const std::int64_t start = first * rows.element_stride;
  if (is_float(rows.type)) {
    const float* row = row_of<float>(rows, r) + start;
    if (rows.element_stride == 1) return row;
    widen(row, rows.element_stride, buffer, n);
  } else if (is_bf16(rows.type)) {
    widen(row_of<bf16>(rows, r) + start, rows.element_stride, buffer, n);
  } else {
    widen(row_of<f16>(rows, r) + start, rows.element_stride, buffer, n);
  }
  return buffer;
}

// Where to compute n output elements from `first` on: in place when they are float32, else in `buffer`, for write_out.
MAMBASDK_SIMD float* output_at(void* out, DType type, std::int64_t first, float* buffer) {
  return is_float(type) ? static_cast<float*>(out) + first : buffer;
}
MAMBASDK_SIMD void write_out(const float* in, void* out, DType type, std::int64_t first, std::int64_t n) {
  if (is_float(type)) {
    float* to = static_cast<float*>(out) + first;
    if (to != in) narrow(in, to, n);
  } else if (is_bf16(type)) {
    narrow(in, static_cast<bf16*>(out) + first, n);
  } else {
    narrow(in, static_cast<f16*>(out) + first, n);
  }
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
