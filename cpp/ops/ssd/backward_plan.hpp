// Workspace of the derivative: sizes and places, scratch of a range of tasks, sums that tasks share. For *.isa.cpp
// only.
#pragma once

#include "ops/ssd/recurrence.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr std::int64_t kHeadBlock = 6;  // heads of a task: they share the sums dB, dC
constexpr std::int64_t kWindow = 32;    // chunks whose states are kept at a time

// Padded sizes, and the places of things in the workspace, counted in floats.
template <class Cells>
struct Plan : Dims<Cells> {
  using Dims<Cells>::steps, Dims<Cells>::heads, Dims<Cells>::state, Dims<Cells>::chunks;
  using Dims<Cells>::step_cells, Dims<Cells>::head_cells, Dims<Cells>::state_cells;
  std::int64_t windows;                     // of the longest sequence
  std::int64_t blocks, block;               // head blocks per group, heads per block
  std::int64_t tile, square, carry, outer;  // (steps,heads), (steps,steps), (state,heads), (state,steps)
  std::int64_t b_rows, bt_rows, ct_rows;    // shared by a group: offsets, size of one chunk
  std::int64_t cbt, finite, group;          // `finite`: 1, or 0 where a value of B or C is not (is_finite_dot)
  std::int64_t dcbt, dct, dbt, part;        // sums of one head block over one chunk: offsets, size
  std::int64_t kept, kept_size, head_size;  // states kept at a time, one of them; what a head carries back
  std::int64_t tasks, slots, scratch;       // scratch: of one range of tasks

  explicit Plan(const SsdBackward& call) : Dims<Cells>(call.problem) {
    const SsdProblem& p = call.problem;
    windows = max64((chunks + kWindow - 1) / kWindow, 1);
    const std::int64_t group_heads = p.heads / p.groups;
    blocks = (group_heads + kHeadBlock - 1) / kHeadBlock;
    block = (group_heads + blocks - 1) / blocks;
    tile = steps * heads;
    square = steps * steps;
    carry = state * heads;
    outer = state * steps;
    b_rows = 0;
    bt_rows = b_rows + steps * state_cells;
    ct_rows = bt_rows + state * step_cells;
    cbt = ct_rows + state * step_cells;
    finite = cbt + square;
    group = finite + 16;
    dcbt = 0;
    dct = dcbt + square;
    dbt = dct + outer;
    part = dbt + outer;
    tasks = p.sequence_count * p.groups * blocks;
    slots = min64(tasks, 32);
    kept = call.chunk_states ? 0 : min64(max64(chunks, 1), kWindow);
    kept_size = state * head_cells;
    head_size = 3 * carry + kept * kept_size + (windows + 1) * carry;
    scratch = 9 * tile + square + 2 * carry + block * head_size;
  }
  std::int64_t groups_size(const SsdProblem& p) const { return this->group_chunks(p) * group; }
  std::int64_t parts_size(const SsdProblem& p) const { return this->group_chunks(p) * blocks * part; }
  std::int64_t group_scratch() const { return part + 2 * square + 2 * outer; }
  std::int64_t scratch_size(const SsdProblem& p) const {
    return max64(slots * scratch, this->group_slots(p) * group_scratch());
  }
};

// Sums of single heads, reduced over sequences at the end.
struct Partials {
  float* A;        // (S,H)
  float* dt_bias;  // (S,H)
  float* D;        // (S,H,padded P)
};

template <class Cells>
Partials place_partials(const Plan<Cells>& plan, const SsdProblem& p, float* at, std::int64_t* size) {
  const std::int64_t heads = round_up(p.sequence_count * p.heads, 16);
  if (size) *size = 2 * heads + p.sequence_count * p.heads * plan.heads;
  return {at, at ? at + heads : nullptr, at ? at + 2 * heads : nullptr};
}

MAMBASDK_SIMD void clear(float* at, std::int64_t size) {
  for (std::int64_t i = 0; i < size; i += kLanes) store(at + i, zero());
}

// The gradient of one head's state and its operands.
struct StateGradient {
  float *values, *rows, *columns;  // (state,heads)
};

// Memory of one range of tasks.
struct Scratch {
  float *x_rows, *dy_rows;                     // rows operands (steps,heads)
  float *xt, *dyt;                             // columns operands (heads,steps)
  float *dy_columns, *dye_columns, *weighted;  // columns operands (steps,heads)
  float *grad_y, *gate;                        // (steps,heads)
  float* scores;                               // rows operand (steps,steps)
  float *running, *saved_rows;                 // (state,heads)
  float *gradients, *kept, *starts;            // per head: of its state; states before chunks, windows

  template <class Cells>
  Scratch(const Plan<Cells>& plan, float* memory) {
    const auto next = [&memory](std::int64_t size) {
      float* here = memory;
      memory += size;
      return here;
    };
    x_rows = next(plan.tile);
    dy_rows = next(plan.tile);
    xt = next(plan.tile);
    dyt = next(plan.tile);
    dy_columns = next(plan.tile);
    dye_columns = next(plan.tile);
    weighted = next(plan.tile);
    grad_y = next(plan.tile);
    gate = next(plan.tile);
    scores = next(plan.square);
    running = next(plan.carry);
    saved_rows = next(plan.carry);
    gradients = next(plan.block * 3 * plan.carry);
    kept = next(plan.block * plan.kept_size * plan.kept);
    starts = next(plan.block * plan.carry * plan.windows);
    if constexpr (Cells::kPerCell == 1) dy_columns = dy_rows;
  }
  // Head number i of the task.
  template <class Cells>
  StateGradient gradient(const Plan<Cells>& plan, std::int64_t i) const {
    float* values = gradients + i * 3 * plan.carry;
    if constexpr (Cells::kPerCell == 1) return {values, values, values};
    return {values, values + plan.carry, values + 2 * plan.carry};
  }
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
