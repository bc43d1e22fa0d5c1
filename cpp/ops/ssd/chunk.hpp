// What the forward and the backward kernel share: sizes of a chunk, its groups, states in memory. For *.isa.cpp only.
#pragma once

#include "core/simd_types.hpp"
#include "kernels/flush_denormals.hpp"
#include "ops/ssd/decay.hpp"

namespace mambasdk::MAMBASDK_ISA {

// Padded sizes of a chunk.
template <class Cells>
struct Dims {
  std::int64_t steps, heads, state;                  // a chunk's steps, P and N
  std::int64_t step_cells, head_cells, state_cells;  // of one row whose summed dim is time, P or N
  std::int64_t chunks;                               // of the longest sequence

  explicit Dims(const SsdProblem& p)
      : steps(padded<Cells>(min64(kChunk, max64(p.max_length, 1)))),
        heads(padded<Cells>(p.head_dim)),
        state(padded<Cells>(p.state)),
        step_cells(cells<Cells>(steps)),
        head_cells(cells<Cells>(heads)),
        state_cells(cells<Cells>(state)),
        chunks((p.max_length + kChunk - 1) / kChunk) {}

  // Chunks of all sequences and groups: chunk c of a sequence and group is number (sequence.first_chunk + c) * G + g.
  [[nodiscard]] std::int64_t group_chunks(const SsdProblem& p) const {
    if (p.sequence_count == 0) return 0;
    const SsdSequence& last = p.sequences[p.sequence_count - 1];
    return (last.first_chunk + (last.length + kChunk - 1) / kChunk) * p.groups;
  }
  [[nodiscard]] std::int64_t group_slots(const SsdProblem& p) const { return min64(group_chunks(p), 64); }
};

// f(sequence, group, first step, number of the chunk of the group, slot of scratch memory) for every chunk.
template <class Cells, class F>
MAMBASDK_SIMD void for_group_chunks(const Dims<Cells>& dims, const SsdProblem& p, const Parallel& parallel, F&& f) {
  const std::int64_t tasks = dims.group_chunks(p), slots = dims.group_slots(p);
  parallel(slots, 1, [&](std::int64_t begin, std::int64_t end) {
    [[maybe_unused]] const typename Cells::Session session;
    const FlushDenormals flush;
    std::int64_t s = 0;
    for (std::int64_t t = begin * tasks / slots; t < end * tasks / slots; ++t) {
      const std::int64_t chunk = t / p.groups;
      while (s + 1 < p.sequence_count && p.sequences[s + 1].first_chunk <= chunk) ++s;
      f(p.sequences[s], t % p.groups, (chunk - p.sequences[s].first_chunk) * kChunk, t, begin);
    }
  });
}

// (state,heads) of one head from (S,H,P,N), zeros when absent.
template <class Cells>
MAMBASDK_SIMD void read_state(const Dims<Cells>& dims, const SsdProblem& p, float* to, const StridedView& input,
                              std::int64_t s, std::int64_t h) {
  for (std::int64_t i = 0; i < dims.state * dims.heads; i += kLanes) store(to + i, zero());
  if (!input.data) return;
  const float* from = static_cast<const float*>(input.data) + s * input.stride[0] + h * input.stride[1];
  for (std::int64_t i = 0; i < p.head_dim; ++i)
    for (std::int64_t n = 0; n < p.state; ++n) to[n * dims.heads + i] = from[i * input.stride[2] + n * input.stride[3]];
}

// One head of (S,H,P,N), contiguous, from (state,heads).
template <class Cells>
MAMBASDK_SIMD void write_state(const Dims<Cells>& dims, const SsdProblem& p, float* to, const float* from,
                               std::int64_t s, std::int64_t h) {
  to += (s * p.heads + h) * p.head_dim * p.state;
  for (std::int64_t i = 0; i < p.head_dim; ++i)
    for (std::int64_t n = 0; n < p.state; ++n) to[i * p.state + n] = from[n * dims.heads + i];
}

// f(an element, the cells of its products) for a dtype of the kernels.
template <class F>
MAMBASDK_SIMD auto with_cells([[maybe_unused]] DType type, F&& f) {
#if defined(MAMBASDK_AMX)  // that variant is called for bfloat16 alone
  return f(bf16{}, Bf16Cells{});
#else
  return with_own_type(type, [&]<class T>(T) {
#if defined(__AVX512BF16__)
    using Cells = std::conditional_t<std::is_same_v<T, bf16>, Bf16Cells, FloatCells>;
#else
    using Cells = FloatCells;
#endif
    return f(T{}, Cells{});
  });
#endif
}

}  // namespace mambasdk::MAMBASDK_ISA
