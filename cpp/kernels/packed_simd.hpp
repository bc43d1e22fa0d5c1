// The register tile over packed panels (packed.hpp), for every way to read them. For *.isa.cpp only.
#pragma once

#include "core/simd_types.hpp"
#include "kernels/packed.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using Index = std::int64_t;

// Rows of a tile: with two vectors of columns as many sums as there are registers beside the panel's row and one
// element of A.
#if defined(__AVX512F__)
constexpr int kMaxRows = 14;
#else
constexpr int kMaxRows = 6;
#endif
constexpr int kGroup = 4;  // rows that are reached from one pointer: 0 to 3 times the distance

// Keeps a pointer as it is: the compiler would rather have one for each row, in memory, or multiply for it.
template <class T>
MAMBASDK_ALWAYS_INLINE void in_register(T*& pointer) {
#if defined(__x86_64__)
  asm("" : "+r"(pointer));
#endif
}

// Where the rows of one half are, as few pointers as the addressing modes of x86 need.
template <int kRows>
struct HalfRows {
  static constexpr int kGroups = (kRows + kGroup - 1) / kGroup;
  const float* at[kGroups > 0 ? kGroups : 1];

  MAMBASDK_ALWAYS_INLINE HalfRows(const float* first, Index row) {
    for (int g = 0; g < kGroups; ++g) at[g] = first + g * kGroup * row;
  }
  MAMBASDK_ALWAYS_INLINE void advance(Index n) {
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      at[g] += n;
      in_register(at[g]);
    }
  }
};

// A panel's row at a time, and one element of A.
template <class T>
struct SingleRows {
  using Element = T;
  static constexpr int kStep = 1;
  template <int kVectors>
  MAMBASDK_SIMD void read(const T* b, vf (&w)[kVectors]) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) w[v] = load(b + v * kLanes);
  }
  MAMBASDK_SIMD vf add_product(vf sum, vf x, vf w) { return fma(x, w, sum); }
};

template <class W, int kRows, int kVectors>
[[gnu::noinline]] void multiply(const PackedTile& t, Index first) {
  constexpr int kFirst = (kRows + 1) / 2, kSecond = kRows - kFirst;
  vf sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[r][v] = zero();
  const Index row = t.a_row;
  for (Index i = 0; i < t.run_count; ++i) {
    HalfRows<kFirst> upper(t.a[0] + t.runs[i].a, row);
    HalfRows<kSecond> lower(t.a[1] + t.runs[i].a, row);
    constexpr Index kStep = W::kStep * kPackedColumns;
    const auto* b = static_cast<const typename W::Element*>(t.panel) + t.runs[i].b * kPackedColumns + first;
    const auto* const end = b + t.run_length * kStep;
    for (; b != end; b += kStep) {
      vf w[kVectors];
      W::read(b, w);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const int place = r < kFirst ? r : r - kFirst;
        const float* const* const at = r < kFirst ? upper.at : lower.at;
        const vf x = set1(at[place / kGroup][place % kGroup * row]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[r][v] = W::add_product(sum[r][v], x, w[v]);
      }
      upper.advance(1);
      lower.advance(1);
    }
  }
  const vf least = set1(t.least);
  float* c = t.c[0] + first;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      store(c + v * kLanes, max(least, sum[r][v] + load(t.bias + first + v * kLanes)));  // in this order NaN stays
    }
    c = r + 1 == kFirst ? t.c[1] + first : c + t.c_row;
    in_register(c);
  }
}

template <class W, int kVectors>
void multiply_rows(const PackedTile& t, Index first) {
  switch (t.rows) {
#define MAMBASDK_ROWS(n) \
  case n:                \
    return multiply<W, n, kVectors>(t, first);
    MAMBASDK_ROWS(1)
    MAMBASDK_ROWS(2)
    MAMBASDK_ROWS(3)
    MAMBASDK_ROWS(4)
    MAMBASDK_ROWS(5)
    MAMBASDK_ROWS(6)
#if defined(__AVX512F__)
    MAMBASDK_ROWS(7)
    MAMBASDK_ROWS(8)
    MAMBASDK_ROWS(9)
    MAMBASDK_ROWS(10)
    MAMBASDK_ROWS(11)
    MAMBASDK_ROWS(12)
    MAMBASDK_ROWS(13)
    MAMBASDK_ROWS(14)
#endif
#undef MAMBASDK_ROWS
    default:
      __builtin_unreachable();
  }
}

template <class W>
void multiply_panel(const PackedTile& t) {
  for (Index first = 0; first < t.columns; first += 2 * kLanes) {
    if (t.columns - first > kLanes)
      multiply_rows<W, 2>(t, first);
    else
      multiply_rows<W, 1>(t, first);
  }
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
