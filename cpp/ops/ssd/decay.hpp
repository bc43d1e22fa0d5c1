// Decays within one chunk of one head. For *.isa.cpp only.
#pragma once

#include "ops/ssd/steps.hpp"

namespace mambasdk::MAMBASDK_ISA {

inline constexpr std::int64_t kDecayBlock = 16;  // steps per block of factored decays, whole vectors
// The largest log2-decay across a block that is factored: sums up to it are rounded to 2^-20, which is the relative
// error of a product.
inline constexpr float kBounded = 32.0f;

// One chunk of one head. Decays are exp2 of differences of running sums s of log2-decays; a sum is kept as two floats,
// so that a difference is as exact as its operands allow. A step does not see steps before its run_start.
struct Decay {
  alignas(64) float dt[kChunk];            // after bias, softplus and limits; 0 beyond the chunk's steps
  alignas(64) float s[kChunk];             // log2 of the product of decays from the chunk's begin through this step
  alignas(64) float s_low[kChunk];         // what `s` lost to rounding
  alignas(64) float from_begin[kChunk];    // decay from the state before the chunk to this step
  alignas(64) float to_end[kChunk];        // decay from this step to the chunk's end
  alignas(64) float source[kChunk];        // dt, or 1 in the form without dt on x; 0 beyond the chunk's steps
  alignas(64) float weight[kChunk];        // to_end * source
  alignas(64) std::int32_t first[kChunk];  // first step of the chunk that this step sees; -1: the state before it too
  // Without resets, the decay from step m to step l of block k is late[l] * early[k][m]: through the first step of
  // block k. For m in an earlier block both are at most 1 for decays, so the product underflows only where the decay
  // does. For m in block k itself early is at least 1: that holds only where `bounded` (kBounded).
  alignas(64) float late[kChunk];
  alignas(64) float early[kChunk / kDecayBlock][kChunk];
  alignas(64) float sourced[kChunk / kDecayBlock][kChunk];  // early * source
  bool factored, bounded;
  bool finite;    // all of dt and of its products with A are
  float through;  // decay of the state across the chunk
};

MAMBASDK_SIMD vi lane_index(std::int64_t begin) {
  vi index;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) index[i] = i;
  return index + static_cast<std::int32_t>(begin);
}
MAMBASDK_SIMD vi load_int(const std::int32_t* p) {
  vi x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}

MAMBASDK_SIMD vf decay_between(vf s_late, vf low_late, vf s_early, vf low_early, vi visible) {
  const vf difference = (s_late - s_early) + (low_late - low_early);
  return select(visible, exp2(select(visible, difference, zero())), zero());
}

// dt of one chunk as it enters softplus: (kChunk), zeros beyond `count`.
template <class T>
MAMBASDK_SIMD void read_dt(float* dst, const SsdProblem& p, const SsdSequence& sequence, std::int64_t head,
                           std::int64_t begin, std::int64_t count) {
  const Steps at = steps(p, sequence, p.dt.stride);
  const std::int64_t offset = at.offset + head * p.dt.stride[2];
  const float bias = p.dt_bias ? p.dt_bias[head] : 0.0f;
  const auto read = [&](const auto* src) __attribute__((always_inline)) {
    for (std::int64_t i = 0; i < count; ++i) dst[i] = to_float(src[offset + (begin + i) * at.stride]) + bias;
  };
  if (p.wide_dt) {
    read(static_cast<const float*>(p.dt.data));
  } else {
    read(static_cast<const T*>(p.dt.data));
  }
  for (std::int64_t i = count; i < kChunk; ++i) dst[i] = 0.0f;
}

template <class T>
MAMBASDK_SIMD void make_decay(Decay& d, const SsdProblem& p, const SsdSequence& sequence, std::int64_t head,
                              std::int64_t begin, std::int64_t count) {
  read_dt<T>(d.dt, p, sequence, head, begin, count);
  for (std::int64_t i = 0; i < kChunk; i += kLanes) {
    vf dt = load(d.dt + i);
    if (p.dt_softplus) dt = softplus(dt);
    dt = min(set1(p.dt_max), max(set1(p.dt_min), dt));  // in this order NaN stays NaN
    const vi inside = lane_index(i) < static_cast<std::int32_t>(count);
    dt = select(inside, dt, zero());
    store(d.dt + i, dt);
    store(d.source + i, p.dt_on_x ? dt : select(inside, set1(1.0f), zero()));
  }
  const double rate = static_cast<double>(p.A[head]) * 1.4426950408889634074;
  double sum = 0.0;
  for (std::int64_t i = 0; i < kChunk; ++i) {
    sum += rate * static_cast<double>(d.dt[i]);
    d.s[i] = static_cast<float>(sum);
    d.s_low[i] = static_cast<float>(sum - static_cast<double>(d.s[i]));
  }
  d.finite = d.s[kChunk - 1] - d.s[kChunk - 1] == 0.0f;
  const std::int32_t* run = p.run_start ? p.run_start + sequence.batch * p.length + begin : nullptr;
  for (std::int64_t i = 0; i < kChunk; ++i) {
    const std::int64_t start = run ? run[i < count ? i : count - 1] : 0;
    d.first[i] = start == 0 || start < begin ? -1 : static_cast<std::int32_t>(start - begin);
  }
  const vf s_end = set1(d.s[kChunk - 1]), low_end = set1(d.s_low[kChunk - 1]);
  const vi first_end = vi{} + d.first[kChunk - 1];
  for (std::int64_t i = 0; i < kChunk; i += kLanes) {
    const vf s = load(d.s + i), low = load(d.s_low + i);
    store(d.from_begin + i, decay_between(s, low, zero(), zero(), load_int(d.first + i) < 0));
    const vf to_end = decay_between(s_end, low_end, s, low, lane_index(i) >= first_end);
    store(d.to_end + i, to_end);
    store(d.weight + i, to_end * load(d.source + i));
  }
  d.through = d.from_begin[kChunk - 1];
  d.factored = run == nullptr;
  d.bounded = d.factored;
  if (!d.factored) return;
  vi outside = vi{};
  for (std::int64_t k = 0; k < kChunk / kDecayBlock; ++k) {
    const std::int64_t begin_k = k * kDecayBlock;
    const vf s = set1(d.s[begin_k]), low = set1(d.s_low[begin_k]);
    for (std::int64_t m = 0; m < begin_k + kDecayBlock; m += kLanes) {
      const vf difference = (s - load(d.s + m)) + (low - load(d.s_low + m));
      const vf early = exp2(difference);
      store(d.early[k] + m, early);
      store(d.sourced[k] + m, early * load(d.source + m));
      if (m < begin_k) continue;
      store(d.late + m, exp2(zero() - difference));
      outside |= ~((difference <= set1(kBounded)) & (difference >= set1(-kBounded)));  // NaN is outside too
    }
  }
  vi any = outside;
  for (int i = 1; i < kLanes; ++i) any[0] |= outside[i];
  d.bounded = any[0] == 0;
}

}  // namespace mambasdk::MAMBASDK_ISA
