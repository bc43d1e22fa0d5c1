// Tiles of a matrix transposed on the way, in squares of registers. For *.isa.cpp only.
#pragma once

#include "kernels/transpose.hpp"

namespace mambasdk::MAMBASDK_ISA {

// Vectors of what a lane of 32 bits holds: floats widened from any type, or the bits of 32- and 16-bit elements.
MAMBASDK_SIMD vf load_lanes(const std::uint32_t* p, int n) {
  return load_n(reinterpret_cast<const float*>(p), n);
}
MAMBASDK_SIMD void store_lanes(std::uint32_t* p, vf x, int n) {
  store_n(reinterpret_cast<float*>(p), x, n);
}
MAMBASDK_SIMD vf load_lanes(const std::uint16_t* p, int n) {
  if (n >= kLanes) return from_bits(__builtin_convertvector(load_half(p), vu));
  alignas(64) std::uint16_t buffer[kLanes] = {};
  for (int i = 0; i < n; ++i) buffer[i] = p[i];
  return from_bits(__builtin_convertvector(load_half(buffer), vu));
}
MAMBASDK_SIMD void store_lanes(std::uint16_t* p, vf x, int n) {
  const vh_unaligned half = (vh_unaligned) __builtin_convertvector(bits_of(x), vh);
  if (n >= kLanes) {
    *reinterpret_cast<vh_unaligned*>(p) = half;
    return;
  }
  for (int i = 0; i < n; ++i) p[i] = half[i];
}
template <class T>
MAMBASDK_SIMD vf load_lanes(const T* p, int n) {
  return load_n(p, n);
}
template <class T>
MAMBASDK_SIMD void store_lanes(T* p, vf x, int n) {
  store_n(p, x, n);
}

// to[r * to_row + c] = from[c * from_column + r] for r < rows, c < columns.
template <class From, class To>
[[gnu::noinline]] void transpose_tile(const From* from, std::int64_t from_column, To* to, std::int64_t to_row,
                                      std::int64_t rows, std::int64_t columns) {
  using Index = std::int64_t;
  const auto square = [&](Index r, Index c, int height, int width) __attribute__((always_inline)) {
    vf v[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      v[i] = i < width ? load_lanes(from + (c + i) * from_column + r, height) : zero();
    }
    transpose(v);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (i < height) store_lanes(to + (r + i) * to_row + c, v[i], width);
    }
  };
  for (Index r = 0; r < rows; r += kLanes) {
    const int height = rows - r < kLanes ? static_cast<int>(rows - r) : kLanes;
    for (Index c = 0; c < columns; c += kLanes) {
      const int width = columns - c < kLanes ? static_cast<int>(columns - c) : kLanes;
      if (height == kLanes && width == kLanes) {
        square(r, c, kLanes, kLanes);
      } else if (height < 4 || width < 4) {
        for (Index j = c; j < c + width; ++j) {
          for (Index i = r; i < r + height; ++i) {
            const From element = from[j * from_column + i];
            if constexpr (std::is_same_v<From, To>) {
              to[i * to_row + j] = element;
            } else if constexpr (std::is_same_v<To, float>) {
              to[i * to_row + j] = to_float(element);
            } else {
              to[i * to_row + j] = from_float<To>::cast(element);
            }
          }
        }
      } else {
        square(r, c, height, width);
      }
    }
  }
}

}  // namespace mambasdk::MAMBASDK_ISA
