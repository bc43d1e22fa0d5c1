// One head across one chunk, step by step: the way taken where a value is not finite. Matrix products multiply what a
// step does not see by a decay of 0, and 0 times infinity or NaN is NaN; here nothing is multiplied that does not
// count. For *.isa.cpp only.
#pragma once

#include "ops/ssd/chunk.hpp"

namespace mambasdk::MAMBASDK_ISA {

// The dtype of saved chunk states: T, but not float16, whose range a state may leave.
template <class T>
struct SavedOf {
  using type = T;
};
template <>
struct SavedOf<f16> {
  using type = float;
};
template <class T>
using Saved = typename SavedOf<T>::type;

// Whether the sum of the products of `size` cells (a multiple of four vectors) is finite. With a == b it bounds each
// value by 2^64, and so every sum of products of two operands that pass.
template <class Cells>
__attribute__((noinline)) bool is_finite_dot(const float* a, const float* b, std::int64_t size) {
  vf sum[4] = {};
  for (std::int64_t i = 0; i < size; i += 4 * kLanes)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) Cells::dot(sum[v], a + i + v * kLanes, b + i + v * kLanes);
  const float total = reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
  return total - total == 0.0f;
}

// What a step does to the state before it: `factor` times it, or nothing of it where the sequence begins again or
// exp(dt A) is 0 in double precision too.
struct StepDecay {
  float factor;
  bool keeps;

  // A factor that is 0 in float32 only leaves infinity and NaN what they are.
  MAMBASDK_ALWAYS_INLINE vf operator()(vf state) const {
    if (!keeps) return zero();
    const vf product = state * factor;
    return factor == 0.0f ? select(state - state == zero(), product, state) : product;
  }
};
MAMBASDK_SIMD StepDecay step_decay(const SsdProblem& p, const SsdSequence& sequence, std::int64_t head,
                                   std::int64_t step, float dt) {
  if (p.run_start && step > 0 && p.run_start[sequence.batch * p.length + step] == step) return {0.0f, false};
  const double log2_decay = static_cast<double>(dt) * static_cast<double>(p.A[head]) * 1.4426950408889634074;
  if (log2_decay < -1075.0) return {0.0f, false};
  return {exp2(set1(static_cast<float>(log2_decay)))[0], true};
}

// Of vector j of a row of P columns, padded: x inside, 0 beyond.
MAMBASDK_SIMD vf inside(const SsdProblem& p, std::int64_t j, vf x) {
  return select(lane_index(j) < static_cast<std::int32_t>(p.head_dim), x, zero());
}

// Element n of an input (B,L,G,N) at one step.
template <class T>
MAMBASDK_SIMD float element_at(const SsdProblem& p, const SsdSequence& sequence, const StridedView& input,
                               std::int64_t g, std::int64_t step, std::int64_t n) {
  const Steps at = steps(p, sequence, input.stride);
  return to_float(
      static_cast<const T*>(input.data)[at.offset + step * at.stride + g * input.stride[2] + n * input.stride[3]]);
}

// state (N,P), `ld` apart, across step `step` of a sequence. x: the step's row, zeros beyond P.
template <class T>
__attribute__((noinline)) void step_state(const SsdProblem& p, const SsdSequence& sequence, std::int64_t head,
                                          std::int64_t step, const float* x, float source, StepDecay decay,
                                          float* state, std::int64_t ld) {
  const std::int64_t g = head / (p.heads / p.groups);
  for (std::int64_t n = 0; n < p.state; ++n) {
    const float b = element_at<T>(p, sequence, p.B, g, step, n);
    for (std::int64_t j = 0; j < ld; j += kLanes)
      store(state + n * ld + j, inside(p, j, decay(load(state + n * ld + j)) + load(x + j) * source * b));
  }
}

// The same over steps [begin, begin+count). `row`: scratch of `ld` floats.
template <class T>
__attribute__((noinline)) void step_chunk(const SsdProblem& p, const SsdSequence& sequence, std::int64_t head,
                                          std::int64_t begin, std::int64_t count, const Decay& d, float* state,
                                          std::int64_t ld, float* row) {
  for (std::int64_t i = 0; i < count; ++i) {
    read_chunk<T>(row, ld, p, sequence, p.x, head, begin + i, 1, 1, p.head_dim);
    step_state<T>(p, sequence, head, begin + i, row, d.source[i], step_decay(p, sequence, head, begin + i, d.dt[i]),
                  state, ld);
  }
}

}  // namespace mambasdk::MAMBASDK_ISA
