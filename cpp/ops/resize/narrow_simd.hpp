// Rows of few channels: a vector of the output is picked out of two vectors of x's row for each tap, by a table that is
// the same for all rows. For *.isa.cpp only.
#pragma once

#include "ops/resize/resize_args.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// The taps of one column made `count`, by halving the weight of the first: exact, and what is infinite stays so.
MAMBASDK_SIMD resize::Taps repeated(resize::Taps taps, int count) {
  for (; taps.count < count; ++taps.count) {
    taps.weight[0] *= 0.5;
    taps.index[taps.count] = taps.index[0];
    taps.weight[taps.count] = taps.weight[0];
  }
  return taps;
}

// Fills the table; false where there is none, or where a vector of the output lies over more than two of x.
bool fill_narrow(const resize::Args& a) {
  const resize::Narrow& n = a.narrow;
  const std::int64_t channels = a.x.channels, elements = a.axis[2].size * channels;
  if (n.taps == 0 || channels >= kLanes) return false;
  for (std::int64_t v = 0; v * kLanes < elements; ++v) {
    std::int64_t at[resize::kMaxTaps][kLanes], least = INT64_MAX, most = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::int64_t i = v * kLanes + lane < elements ? v * kLanes + lane : elements - 1;
      const resize::Taps taps = repeated(a.axis[2].taps[i / channels], n.taps);
      for (int k = 0; k < n.taps; ++k) {
        at[k][lane] = taps.index[k] * channels + i % channels;
        least = at[k][lane] < least ? at[k][lane] : least;
        most = at[k][lane] > most ? at[k][lane] : most;
        n.weight[k * n.lanes + v * kLanes + lane] = static_cast<float>(taps.weight[k]);
      }
    }
    if (most - least >= 2 * kLanes) return false;
    n.base[v] = least;
    for (int k = 0; k < n.taps; ++k) {
      for (int lane = 0; lane < kLanes; ++lane)
        n.place[k * n.lanes + v * kLanes + lane] = static_cast<std::int32_t>(at[k][lane] - least);
    }
  }
  return true;
}

// Vectors [first, last) of a row of y with `elements` elements; `row` is x's, in a buffer that goes on for two vectors.
template <int kTaps, class T>
MAMBASDK_SIMD void narrow_vectors(const resize::Narrow& n, std::int64_t first, std::int64_t last, const float* row,
                                  std::int64_t elements, T* y) {
  const std::int64_t* base = n.base;
  const std::int32_t* place = n.place;
  const float* weight = n.weight;
  const std::int64_t lanes = n.lanes;
  for (std::int64_t v = first; v < last; ++v) {
    const vf low = load(row + base[v]), high = load(row + base[v] + kLanes);
    vf sum = zero();
#pragma GCC unroll 4
    for (int k = 0; k < kTaps; ++k) {
      const std::int64_t at = k * lanes + v * kLanes;
      const vf x = pick(low, high, (vi)load_bits(place + at)), w = load(weight + at);
      sum = k == 0 ? w * x : fma(w, x, sum);
    }
    const std::int64_t left = elements - v * kLanes;
    store_n(y + v * kLanes, sum, left < kLanes ? static_cast<int>(left) : kLanes);
  }
}
template <class T>
[[gnu::noinline]] void narrow_vectors(const resize::Narrow& n, std::int64_t first, std::int64_t last, const float* row,
                                      std::int64_t elements, T* y) {
  switch (n.taps) {
    case 1:
      return narrow_vectors<1>(n, first, last, row, elements, y);
    case 2:
      return narrow_vectors<2>(n, first, last, row, elements, y);
    default:
      return narrow_vectors<4>(n, first, last, row, elements, y);
  }
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
