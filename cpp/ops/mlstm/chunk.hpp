// What every kernel of mlstm shares: padded sizes, the heads of the sequences in slots of scratch memory, and rows of
// the inputs. For *.isa.cpp only.
#pragma once

#include "core/simd_types.hpp"
#include "kernels/flush_denormals.hpp"
#include "ops/mlstm/mlstm_args.hpp"
#include "ops/ssd/operands.hpp"

namespace mambasdk::MAMBASDK_ISA {

using Index = std::int64_t;
using mlstm::Problem;
using mlstm::Sequence;

inline constexpr Index kSlots = 32;  // ranges of heads with scratch memory of their own

// Padded sizes.
struct Dims {
  Index steps, width;  // of a chunk; E

  explicit Dims(const Problem& p)
      : steps(round_up(max64(1, min64(p.chunk, p.max_length)), kLanes)), width(round_up(p.head_dim, kLanes)) {}
  Index state() const { return width * width + width; }
};

MAMBASDK_SIMD Index chunk_steps(const Problem& p) {
  return max64(1, min64(p.chunk, p.max_length));
}
MAMBASDK_SIMD Index slot_count(const Problem& p) {
  return min64(p.sequence_count * p.heads, kSlots);
}

// Where step `t` of a sequence is in an input.
MAMBASDK_SIMD Index place(const StridedView& view, const Sequence& sequence, Index head, Index t) {
  return sequence.batch * view.stride[0] + (sequence.begin + t) * view.stride[1] + head * view.stride[2];
}

// Rows of one chunk of an input, for one head, times `scale`: (steps, width), zeros beyond.
template <class T>
__attribute__((noinline)) void read_rows(float* out, Index width, Index steps, const Problem& p,
                                         const StridedView& view, const Sequence& sequence, Index head, Index begin,
                                         Index count, float scale) {
  for (Index i = 0; i < count; ++i) {
    const T* from = static_cast<const T*>(view.data) + place(view, sequence, head, begin + i);
    read_row(out + i * width, from, view.stride[3], p.head_dim, width);
    if (scale != 1.0f)
      for (Index j = 0; j < width; j += kLanes) store(out + i * width + j, load(out + i * width + j) * scale);
  }
  for (Index i = count * width; i < steps * width; i += kLanes) store(out + i, zero());
}

MAMBASDK_SIMD float key_scale(const Problem& p) {
  return p.head_dim > 0 ? 1.0f / sqrt(set1(static_cast<float>(p.head_dim)))[0] : 1.0f;
}

MAMBASDK_SIMD float dot(const float* a, const float* b, Index n) {
  vf sum = zero();
  for (Index i = 0; i < n; i += kLanes) sum += load(a + i) * load(b + i);
  return reduce_add(sum);
}

// Of `n` floats, a multiple of a vector.
MAMBASDK_SIMD bool is_finite(const float* x, Index n) {
  vf nothing = zero();  // 0 times what must be finite
  for (Index i = 0; i < n; i += kLanes) nothing += load(x + i) * 0.0f;
  return reduce_add(nothing) == 0.0f;
}

// What the sums of a step are divided by: max(|normaliser|, least) + epsilon. A normaliser that is NaN counts.
struct Divisor {
  float value;
  bool normal;  // the normaliser is the larger

  Divisor(float normaliser, float least) {
    const float size = __builtin_fabsf(normaliser);
    normal = !(size <= least);
    value = (normal ? size : least) + static_cast<float>(mlstm::kEpsilon);
  }
};

// f(sequence, head, slot) for every head of every sequence; a slot's scratch memory is one range's at a time.
template <class F>
MAMBASDK_SIMD void for_each_head(const Problem& p, const Parallel& parallel, F&& f) {
  const Index tasks = p.sequence_count * p.heads, slots = slot_count(p);
  parallel(slots, 1, [&](Index begin, Index end) {
    const FlushDenormals flush;
    for (Index slot = begin; slot < end; ++slot)
      for (Index task = slot; task < tasks; task += slots) f(task / p.heads, task % p.heads, slot);
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
