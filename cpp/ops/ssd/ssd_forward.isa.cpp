// ssd, forward (contract: ssd.hpp). Chunked: within a chunk y = (C B^T o decays) x, across chunks through the state.
//
// C, B^T and C B^T of every chunk are made once per group and shared by its heads; then each (sequence, head) walks
// through its chunks with the state in cache. The state is (N,P) here, P along vectors.
#include "ops/ssd/chunk.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// Padded sizes, and the places of things in the workspace, counted in floats.
template <class Cells>
struct Plan {
  std::int64_t steps, heads, state;         // a chunk's steps, P and N, padded
  std::int64_t step_cells, state_cells;     // of one row whose summed dim is time or N
  std::int64_t chunks;                      // of the longest sequence
  std::int64_t c_rows, bt_rows, cb, group;  // shared by a group: offsets, and size of one chunk
  std::int64_t slots, scratch;              // private to a range of tasks

  explicit Plan(const SsdProblem& p) {
    steps = padded<Cells>(min64(kChunk, max64(p.max_length, 1)));
    heads = padded<Cells>(p.head_dim);
    state = padded<Cells>(p.state);
    step_cells = cells<Cells>(steps);
    state_cells = cells<Cells>(state);
    chunks = (p.max_length + kChunk - 1) / kChunk;
    c_rows = 0;
    bt_rows = c_rows + steps * state_cells;
    cb = bt_rows + state * step_cells;
    group = cb + steps * steps;
    slots = min64(p.sequence_count * p.heads, 64);
    const std::int64_t per_head = steps * heads * 3 + steps * step_cells + state * heads + state_cells * heads;
    const std::int64_t per_group = 2 * steps * state + 3 * steps * state;
    scratch = round_up(max64(per_head, per_group), 16);
  }
  std::int64_t group_slots(const SsdProblem& p) const { return min64(p.sequence_count * p.groups * chunks, 64); }
  std::int64_t groups_size(const SsdProblem& p) const { return p.sequence_count * p.groups * chunks * group; }
  std::int64_t floats(const SsdProblem& p) const { return groups_size(p) + max64(slots, group_slots(p)) * scratch; }
};

template <class T, class Cells>
void prepare_group(const Plan<Cells>& plan, const SsdProblem& p, const SsdSequence& sequence, std::int64_t g,
                   std::int64_t begin, float* out, float* scratch) {
  const std::int64_t count = min64(kChunk, sequence.length - begin);
  float* rows = scratch;                                 // (steps,state)
  float* b_cells = rows + plan.steps * plan.state;       // rows operand of B
  float* b_columns = b_cells + plan.steps * plan.state;  // columns operand of B^T, then of B
  read_chunk<T>(rows, plan.state, p, sequence, p.C, g, begin, count, plan.steps, p.state);
  to_rows<Cells>(out + plan.c_rows, plan.state_cells, rows, plan.state, plan.steps, plan.state);
  read_chunk<T>(rows, plan.state, p, sequence, p.B, g, begin, count, plan.steps, p.state);
  to_rows<Cells>(b_cells, plan.state_cells, rows, plan.state, plan.steps, plan.state);
  transpose(b_columns, plan.steps, b_cells, plan.state_cells, plan.steps, plan.state_cells);
  product<Cells>(out + plan.cb, plan.steps, out + plan.c_rows, plan.state_cells, b_columns, plan.steps, plan.steps,
                 plan.steps, plan.state_cells, false);
  to_columns<Cells>(b_columns, plan.state, rows, plan.state, plan.steps, plan.state);
  transpose(out + plan.bt_rows, plan.step_cells, b_columns, plan.state, plan.step_cells, plan.state);
}

// Rows operand of C B^T o decays, columns up to and including the tile of the diagonal.
template <class Cells>
MAMBASDK_SIMD void make_scores(float* scores, const Plan<Cells>& plan, const float* cb, const Decay& d) {
  for (std::int64_t l = 0; l < plan.steps; ++l) {
    const vf s = set1(d.s[l]), low = set1(d.s_low[l]);
    const vi late = vi{} + static_cast<std::int32_t>(l), first = vi{} + d.first[l];
    const std::int64_t end = (l / kTileRows + 1) * kTileRows, block = l / kDecayBlock;
    const std::int64_t earlier = d.factored ? block * kDecayBlock : 0;  // steps of earlier blocks
    for (std::int64_t m = 0; m < earlier; m += kLanes) {
      const vf decay = set1(d.late[l]) * load(d.early[block] + m);
      Cells::put_row(scores + l * plan.step_cells, m, load(cb + l * plan.steps + m) * decay * load(d.source + m));
    }
    for (std::int64_t m = earlier; m < end; m += kLanes) {
      const vi early = lane_index(m);
      const vf decay = decay_between(s, low, load(d.s + m), load(d.s_low + m), (early <= late) & (early >= first));
      Cells::put_row(scores + l * plan.step_cells, m, load(cb + l * plan.steps + m) * decay * load(d.source + m));
    }
  }
}

template <class T, class Cells>
void run_head(const Plan<Cells>& plan, const SsdForward& call, std::int64_t s, std::int64_t h, const float* groups,
              float* scratch) {
  const SsdProblem& p = call.problem;
  const SsdSequence& sequence = p.sequences[s];
  const std::int64_t g = h / (p.heads / p.groups);
  float* x = scratch;                                      // (steps,heads)
  float* x_columns = x + plan.steps * plan.heads;          // columns operand of x
  float* weighted = x_columns + plan.steps * plan.heads;   // columns operand of weight o x
  float* scores = weighted + plan.steps * plan.heads;      // rows operand (steps,steps)
  float* state = scores + plan.steps * plan.step_cells;    // (state,heads)
  float* state_columns = state + plan.state * plan.heads;  // columns operand of the state
  if constexpr (Cells::kPerCell == 1) {
    x_columns = x;
    state_columns = state;
  }
  bool empty = true;  // the state is zero
  for (std::int64_t i = 0; i < plan.state * plan.heads; i += kLanes) store(state + i, zero());
  if (p.initial_state.data) {
    const std::int64_t* stride = p.initial_state.stride;
    const float* from = static_cast<const float*>(p.initial_state.data) + s * stride[0] + h * stride[1];
    for (std::int64_t i = 0; i < p.head_dim; ++i)
      for (std::int64_t n = 0; n < p.state; ++n) state[n * plan.heads + i] = from[i * stride[2] + n * stride[3]];
    empty = false;
  }
  const std::int64_t y_stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
  const Steps y_at = steps(p, sequence, y_stride);
  const Steps z_at = steps(p, sequence, p.z.stride);
  Decay d;
  for (std::int64_t begin = 0; begin < sequence.length; begin += kChunk) {
    const std::int64_t count = min64(kChunk, sequence.length - begin);
    const float* group = groups + ((s * p.groups + g) * plan.chunks + begin / kChunk) * plan.group;
    make_decay<T>(d, p, sequence, h, begin, count);
    read_chunk<T>(x, plan.heads, p, sequence, p.x, h, begin, count, plan.steps, p.head_dim);
    if constexpr (Cells::kPerCell != 1) {
      to_columns<Cells>(x_columns, plan.heads, x, plan.heads, plan.steps, plan.heads);
      to_columns<Cells>(state_columns, plan.heads, state, plan.heads, plan.state, plan.heads);
    }
    to_columns<Cells>(weighted, plan.heads, x, plan.heads, plan.steps, plan.heads, d.weight);
    make_scores(scores, plan, group + plan.cb, d);
    if (call.chunk_states) {
      T* saved = static_cast<T*>(call.chunk_states) +
                 ((sequence.first_chunk + begin / kChunk) * p.heads + h) * p.state * p.head_dim;
      for (std::int64_t n = 0; n < p.state; ++n) write_row(saved + n * p.head_dim, state + n * plan.heads, p.head_dim);
    }
    const bool last = begin + kChunk >= sequence.length && !call.final_state;
    for_stripes(plan.heads, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      constexpr int NV = decltype(width)::value;
      // y = from_begin o (C state) + scores x + D x, then the gate.
      for (std::int64_t l = 0; l < count; l += kTileRows) {
        prefetch_steps<T>(p, sequence, p.x, h, begin + kChunk + l, kTileRows, j, NV * kLanes);
        vf acc[kTileRows][NV];
        clear_tile(acc);
        if (!empty) {
          multiply<Cells>(acc, group + plan.c_rows + l * plan.state_cells, plan.state_cells, state_columns + j,
                          plan.heads, plan.state_cells);
#pragma GCC unroll 16
          for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[r][v] *= set1(d.from_begin[l + r]);
        }
        multiply<Cells>(acc, scores + l * plan.step_cells, plan.step_cells, x_columns + j, plan.heads,
                        cells<Cells>(l + kTileRows));
        alignas(64) float tile[kTileRows][NV * kLanes];
        store_tile(acc, &tile[0][0], NV * kLanes);
        for (std::int64_t r = 0; r < min64(kTileRows, count - l); ++r) {
          T* y = static_cast<T*>(call.y) + y_at.offset + (begin + l + r) * y_at.stride + h * p.head_dim;
          for (int v = 0; v < NV; ++v) {
            const std::int64_t column = j + v * kLanes;
            const int n = static_cast<int>(min64(kLanes, p.head_dim - column));
            if (n <= 0) break;
            vf value = load(&tile[r][v * kLanes]);
            if (p.D) {
              const vf skip = p.skip_width == 1 ? set1(p.D[h]) : load_n(p.D + h * p.head_dim + column, n);
              value += skip * load(x + (l + r) * plan.heads + column);
            }
            if (p.z.data) {
              const T* z = static_cast<const T*>(p.z.data) + z_at.offset + (begin + l + r) * z_at.stride +
                           h * p.z.stride[2] + column * p.z.stride[3];
              alignas(64) float gate[kLanes];
              read_row(gate, z, p.z.stride[3], n, kLanes);
              value *= silu(load(gate));
            }
            store_n(y + column, value, n);
          }
        }
      }
      // state = through * state + B^T (weight o x)
      if (last) return;
      for (std::int64_t n = 0; n < plan.state; n += kTileRows) {
        vf acc[kTileRows][NV];
        load_tile(acc, state + n * plan.heads + j, plan.heads);
        const vf through = set1(d.through);
#pragma GCC unroll 16
        for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) acc[r][v] *= through;
        multiply<Cells>(acc, group + plan.bt_rows + n * plan.step_cells, plan.step_cells, weighted + j, plan.heads,
                        plan.step_cells);
        store_tile(acc, state + n * plan.heads + j, plan.heads);
      }
    });
    empty = false;
  }
  if (call.final_state) {
    float* to = call.final_state + (s * p.heads + h) * p.head_dim * p.state;
    for (std::int64_t i = 0; i < p.head_dim; ++i)
      for (std::int64_t n = 0; n < p.state; ++n) to[i * p.state + n] = state[n * plan.heads + i];
  }
}

template <class T, class Cells>
void run(const SsdForward& call, float* workspace, const Parallel& parallel) {
  const SsdProblem& p = call.problem;
  const Plan<Cells> plan(p);
  float* groups = workspace;
  float* scratch = workspace + plan.groups_size(p);
  const std::int64_t group_tasks = p.sequence_count * p.groups * plan.chunks, group_slots = plan.group_slots(p);
  parallel(group_slots, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin * group_tasks / group_slots; t < end * group_tasks / group_slots; ++t) {
      const std::int64_t s = t / (p.groups * plan.chunks), g = t / plan.chunks % p.groups;
      const std::int64_t step = t % plan.chunks * kChunk;
      if (step < p.sequences[s].length)
        prepare_group<T>(plan, p, p.sequences[s], g, step, groups + t * plan.group, scratch + begin * plan.scratch);
    }
  });
  const std::int64_t tasks = p.sequence_count * p.heads;
  parallel(plan.slots, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin * tasks / plan.slots; t < end * tasks / plan.slots; ++t)
      run_head<T>(plan, call, t / p.heads, t % p.heads, groups, scratch + begin * plan.scratch);
  });
}

}  // namespace

std::int64_t ssd_workspace_bytes(const SsdForward& call) {
  const SsdProblem& p = call.problem;
#if defined(__AVX512BF16__)
  if (p.dtype == dtype::bf16) return Plan<Bf16Cells>(p).floats(p) * static_cast<std::int64_t>(sizeof(float));
#endif
  return Plan<FloatCells>(p).floats(p) * static_cast<std::int64_t>(sizeof(float));
}

void ssd(const SsdForward& call, void* workspace, const Parallel& parallel) {
  float* floats = static_cast<float*>(workspace);
  const DType type = call.problem.dtype;
  if (type == dtype::f32) return run<float, FloatCells>(call, floats, parallel);
  if (type == dtype::f16) return run<f16, FloatCells>(call, floats, parallel);
#if defined(__AVX512BF16__)
  run<bf16, Bf16Cells>(call, floats, parallel);
#else
  run<bf16, FloatCells>(call, floats, parallel);
#endif
}

}  // namespace mambasdk::MAMBASDK_ISA
