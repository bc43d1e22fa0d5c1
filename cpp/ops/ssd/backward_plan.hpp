// Workspace of the derivative: sizes and places, scratch of a range of tasks, sums that tasks share. For *.isa.cpp
// only.
#pragma once

#include "ops/ssd/chunk.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr std::int64_t kHeadBlock = 4;  // heads of a task: they share the sums dB, dC
constexpr std::int64_t kWindow = 32;    // chunks whose states are kept at a time

// Padded sizes, and the places of things in the workspace, counted in floats.
template <class Cells>
struct Plan : Dims<Cells> {
  using Dims<Cells>::steps, Dims<Cells>::heads, Dims<Cells>::state, Dims<Cells>::chunks;
  using Dims<Cells>::step_cells, Dims<Cells>::head_cells, Dims<Cells>::state_cells;
  std::int64_t windows;                                               // of the longest sequence
  std::int64_t blocks, block;                                         // head blocks per group, heads per block
  std::int64_t tile, square, carry;                                   // (steps,heads), (steps,steps), (state,heads)
  std::int64_t c_rows, b_rows, ct_rows, bt_rows, ct, bt, cbt, group;  // shared by a group: offsets, size of one chunk
  std::int64_t kept, kept_size;                                       // states kept at a time
  std::int64_t tasks, slots, scratch;                                 // scratch: of one range of tasks

  explicit Plan(const SsdBackward& call) : Dims<Cells>(call.problem) {
    const SsdProblem& p = call.problem;
    windows = max64((chunks + kWindow - 1) / kWindow, 1);
    const std::int64_t group_heads = p.heads / p.groups;
    blocks = (group_heads + kHeadBlock - 1) / kHeadBlock;
    block = (group_heads + blocks - 1) / blocks;
    tile = steps * heads;
    square = steps * steps;
    carry = state * heads;
    std::int64_t end = 0;
    const auto place = [&end](std::int64_t size) {
      const std::int64_t at = end;
      end += size;
      return at;
    };
    c_rows = place(steps * state_cells);
    b_rows = place(steps * state_cells);
    ct_rows = place(state * step_cells);
    bt_rows = place(state * step_cells);
    ct = Cells::kPerCell == 1 ? ct_rows : place(state * steps);
    bt = Cells::kPerCell == 1 ? bt_rows : place(state * steps);
    cbt = place(square);
    group = end;
    tasks = p.sequence_count * p.groups * blocks;
    slots = min64(tasks, 32);
    kept = call.chunk_states ? 0 : min64(max64(chunks, 1), kWindow);
    kept_size = state * head_cells;
    scratch =
        8 * tile + 4 * square + 3 * steps * state + 4 * carry + block * (kept * kept_size + (windows + 1) * carry);
  }
  std::int64_t groups_size(const SsdProblem& p) const { return this->group_chunks(p) * group; }
  std::int64_t group_scratch() const { return 2 * steps * state; }
  std::int64_t scratch_size(const SsdProblem& p) const {
    return max64(slots * scratch, this->group_slots(p) * group_scratch());
  }
};

// Sums that several tasks contribute to, reduced at the end in a fixed order.
struct Partials {
  float* A;        // (S,H)
  float* dt_bias;  // (S,H)
  float* D;        // (S,H,padded P)
  float* B;        // (blocks,B*L,G,padded N)
  float* C;
};

template <class Cells>
Partials place_partials(const Plan<Cells>& plan, const SsdProblem& p, std::int64_t rows, float* at,
                        std::int64_t* size) {
  Partials partials{};
  std::int64_t end = 0;
  const auto place = [&](std::int64_t count) {
    float* here = at ? at + end : nullptr;
    end += round_up(count, 16);
    return here;
  };
  partials.A = place(p.sequence_count * p.heads);
  partials.dt_bias = place(p.sequence_count * p.heads);
  partials.D = place(p.sequence_count * p.heads * plan.heads);
  partials.B = place(plan.blocks * rows * p.groups * plan.state);
  partials.C = place(plan.blocks * rows * p.groups * plan.state);
  if (size) *size = end;
  return partials;
}

MAMBASDK_SIMD void clear(float* at, std::int64_t size) {
  for (std::int64_t i = 0; i < size; i += kLanes) store(at + i, zero());
}

// Batch entries that the sequences cover, times L.
std::int64_t row_count(const SsdProblem& p) {
  std::int64_t batches = 0;
  for (std::int64_t s = 0; s < p.sequence_count; ++s) batches = max64(batches, p.sequences[s].batch + 1);
  return batches * p.length;
}

// Memory of one range of tasks.
struct Scratch {
  float *x, *xt_columns, *dy, *dyt_columns, *dy_columns, *dye_columns, *weighted, *operand;  // (steps,heads)
  float *scores, *dcbt, *dcb_columns, *dcb_rows;                                             // (steps,steps)
  float *dct, *dbt, *transposed;                                                             // (steps,state)
  float *running, *dstate_rows, *dstate_columns, *saved_rows;                                // (state,heads)
  float *kept, *starts, *dstates;  // per head: states before a window's chunks, before each window; state's gradient

  template <class Cells>
  Scratch(const Plan<Cells>& plan, float* memory) {
    const auto next = [&memory](std::int64_t size) {
      float* here = memory;
      memory += size;
      return here;
    };
    x = next(plan.tile);
    xt_columns = next(plan.tile);
    dy = next(plan.tile);
    dyt_columns = next(plan.tile);
    dy_columns = next(plan.tile);
    dye_columns = next(plan.tile);
    weighted = next(plan.tile);
    operand = next(plan.tile);
    scores = next(plan.square);
    dcbt = next(plan.square);
    dcb_columns = next(plan.square);
    dcb_rows = next(plan.square);
    dct = next(plan.steps * plan.state);
    dbt = next(plan.steps * plan.state);
    transposed = next(plan.steps * plan.state);
    running = next(plan.carry);
    dstate_rows = next(plan.carry);
    dstate_columns = next(plan.carry);
    saved_rows = next(plan.carry);
    kept = next(plan.block * plan.kept_size * plan.kept);
    starts = next(plan.block * plan.carry * plan.windows);
    dstates = next(plan.block * plan.carry);
  }
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
