// What the forward and backward kernels of the norms share: statistics of a group, and the rows of a task. For
// *.isa.cpp only.
#pragma once

#include "ops/norm/norm.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace norm;
using Index = std::int64_t;

MAMBASDK_SIMD int lanes_left(Index i, Index n) {
  return n - i < kLanes ? static_cast<int>(n - i) : kLanes;
}

// Where a row asked for ahead of its use waits: two rows of floats and their results fill the first-level cache.
template <class T>
inline constexpr int kAheadLevel = sizeof(T) == 2 ? 1 : 2;

struct Statistics {
  float mean;
  float rstd;
};

// Four independent sums, so that additions overlap; the order depends on n alone.
template <class F>
MAMBASDK_SIMD float sum_lanes(Index n, F&& term) {
  vf sum[4] = {zero(), zero(), zero(), zero()};
  Index i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) sum[j] = sum[j] + term(i + j * kLanes, kLanes);
  }
  for (; i < n; i += kLanes) sum[0] = sum[0] + term(i, lanes_left(i, n));
  return reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// The lanes past `count` as zeros.
MAMBASDK_SIMD vf only(vf x, int count) {
  if (count >= kLanes) return x;
  alignas(64) float mask[kLanes] = {};
  for (int i = 0; i < count; ++i) mask[i] = 1.0f;
  return x * load(static_cast<const float*>(mask));
}

// What a first pass over a group sums: its elements where there is a mean to subtract, else their squares.
template <bool kMean>
MAMBASDK_SIMD vf first_term(vf x) {
  return kMean ? x : x * x;
}

// From that sum; the variance of a layer_norm takes a pass of its own, which keeps the precision of offset rows.
template <bool kMean, class T>
MAMBASDK_SIMD Statistics statistics_of(const T* v, Index n, float eps, float first_sum) {
  const float inverse_n = 1.0f / static_cast<float>(n);
  if constexpr (!kMean) return {0.0f, 1.0f / __builtin_sqrtf(inverse_n * first_sum + eps)};
  const float mean = inverse_n * first_sum;
  const vf center = set1(mean);
  const float variance = inverse_n * sum_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
                           const vf d = only(load_n(v + i, count) - center, count);
                           return d * d;
                         });
  return {mean, 1.0f / __builtin_sqrtf(variance + eps)};
}

// `ahead`: a group that will be used soon.
template <bool kMean, class T>
MAMBASDK_SIMD Statistics statistics(const T* v, Index n, float eps, const T* ahead) {
  const float sum = sum_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
    prefetch_vectors<1, kAheadLevel<T>>(ahead + i);
    return first_term<kMean>(load_n(v + i, count));
  });
  return statistics_of<kMean>(v, n, eps, sum);
}

void fill_table(const Args& a) {
  const Index n = a.channels;
  float* weight = a.table;
  float* bias = a.table + padded(n);
  for (Index i = 0; i < n; ++i) weight[i] = 1.0f;
  for (Index i = 0; i < n; ++i) bias[i] = 0.0f;
  if (a.weight.data != nullptr) write_out(read_row(a.weight, 0, weight, n), weight, {2, 32}, 0, n);
  if (a.bias.data != nullptr) write_out(read_row(a.bias, 0, bias, n), bias, {2, 32}, 0, n);
}

// A range should be worth its hand-over: some 16 K elements.
MAMBASDK_SIMD Index grain_of(const Args& a) {
  const Index elements = a.rows_per_task * a.channels + 1;
  return 16384 / elements > 1 ? 16384 / elements : 1;
}

MAMBASDK_SIMD Index last_row(const Args& a, Index task) {
  const Index end = (task + 1) * a.rows_per_task;
  return end < a.rows ? end : a.rows;
}

MAMBASDK_SIMD bool same_type(DType a, DType b) {
  return a.bits == b.bits && a.code == b.code;
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
