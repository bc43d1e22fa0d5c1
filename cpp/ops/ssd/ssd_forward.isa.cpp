// ssd, forward (contract: ssd.hpp). Chunked: within a chunk y = (C B^T o decays) x, across chunks through the state.
//
// C, B^T and C B^T of every chunk are made once per group and shared by its heads; then a few heads of a group at a
// time walk through the chunks of a sequence with their states in cache. The state is (N,P) here, P along vectors.
#include "ops/ssd/recurrence.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr std::int64_t kHeadsTogether = 12;  // whose states fit the second-level cache

// Padded sizes, and the places of things in the workspace, counted in floats.
template <class Cells>
struct Plan : Dims<Cells> {
  using Dims<Cells>::steps, Dims<Cells>::heads, Dims<Cells>::state;
  using Dims<Cells>::step_cells, Dims<Cells>::head_cells, Dims<Cells>::state_cells;
  std::int64_t c_rows, bt_rows, cb, group;  // shared by a group: offsets, and size of one chunk
  std::int64_t slots, scratch;              // private to a range of tasks

  explicit Plan(const SsdProblem& p) : Dims<Cells>(p) {
    c_rows = 0;
    bt_rows = c_rows + steps * state_cells;
    cb = bt_rows + state * step_cells;
    group = cb + steps * steps;
    slots = min64(p.sequence_count * p.heads, 64);
    const std::int64_t per_head = 3 * steps * heads + steps * step_cells + state * heads + state_cells * heads;
    const std::int64_t per_group = 2 * steps * state + 3 * steps * state;
    scratch = round_up(max64(per_head, per_group), 16);
  }
  std::int64_t groups_size(const SsdProblem& p) const { return this->group_chunks(p) * group; }
  std::int64_t floats(const SsdProblem& p) const {
    return groups_size(p) + max64(slots, this->group_slots(p)) * scratch;
  }
};

template <class T, class Cells>
void prepare_group(const Plan<Cells>& plan, const SsdProblem& p, const SsdSequence& sequence, std::int64_t g,
                   std::int64_t begin, float* out, float* scratch) {
  const std::int64_t count = min64(kChunk, sequence.length - begin);
  float* rows = scratch;                                 // (steps,state)
  float* b_cells = rows + plan.steps * plan.state;       // rows operand of B
  float* b_columns = b_cells + plan.steps * plan.state;  // columns operand of B^T, then of B
  read_rows<T, Cells>(out + plan.c_rows, plan.state_cells, p, sequence, p.C, g, begin, count, plan.steps, p.state);
  read_rows<T, Cells>(b_cells, plan.state_cells, p, sequence, p.B, g, begin, count, plan.steps, p.state);
  transpose(b_columns, plan.steps, b_cells, plan.state_cells, plan.steps, plan.state_cells);
  // Later steps than a row's tile of columns are never read.
  for (std::int64_t j = 0; j < plan.steps; j += kTriangleColumns)
    product<Cells>(out + plan.cb + j * plan.steps + j, plan.steps, out + plan.c_rows + j * plan.state_cells,
                   plan.state_cells, b_columns + j, plan.steps, plan.steps - j, min64(kTriangleColumns, plan.steps - j),
                   plan.state_cells, false);
  if constexpr (Cells::kPerCell == 1) {
    transpose(out + plan.bt_rows, plan.step_cells, b_cells, plan.state_cells, plan.steps, plan.state);
  } else {
    Cells::columns_of_rows(b_columns, plan.state, b_cells, plan.state_cells, plan.steps, plan.state_cells);
    transpose(out + plan.bt_rows, plan.step_cells, b_columns, plan.state, plan.step_cells, plan.state);
  }
}

// Rows operand of C B^T o decays o source, columns up to and including the tile of the diagonal.
template <class Cells>
__attribute__((noinline)) void make_scores(float* scores, const Plan<Cells>& plan, const float* cb, const Decay& d) {
  if (d.bounded) {
    for (std::int64_t k = 0; k * kDecayBlock < plan.steps; ++k) {
      const std::int64_t end = min64((k + 1) * kDecayBlock, plan.steps);
      for (std::int64_t m = 0; m < end; m += kLanes) {
        const vf sourced = load(d.sourced[k] + m);
        const vi early = lane_index(m);
        for (std::int64_t l = k * kDecayBlock; l < end; ++l) {
          vf score = load(cb + l * plan.steps + m) * (set1(d.late[l]) * sourced);
          if (m >= k * kDecayBlock) score = select(early <= static_cast<std::int32_t>(l), score, zero());
          Cells::put_row(scores + l * plan.step_cells, m, score);
        }
      }
    }
    return;
  }
  for (std::int64_t l = 0; l < plan.steps; ++l) {
    const vf s = set1(d.s[l]), low = set1(d.s_low[l]);
    const vi late = vi{} + static_cast<std::int32_t>(l), first = vi{} + d.first[l];
    const std::int64_t end = (l / kProductRows + 1) * kProductRows, block = l / kDecayBlock;
    const std::int64_t earlier = d.factored ? block * kDecayBlock : 0;  // steps of earlier blocks
    for (std::int64_t m = 0; m < earlier; m += kLanes) {
      const vf decay = set1(d.late[l]) * load(d.sourced[block] + m);
      Cells::put_row(scores + l * plan.step_cells, m, load(cb + l * plan.steps + m) * decay);
    }
    for (std::int64_t m = earlier; m < end; m += kLanes) {
      const vi early = lane_index(m);
      const vf decay = decay_between(s, low, load(d.s + m), load(d.s_low + m), (early <= late) & (early >= first));
      Cells::put_row(scores + l * plan.step_cells, m, load(cb + l * plan.steps + m) * decay * load(d.source + m));
    }
  }
}

// Heads [head0, head1) of one group and one sequence: they go through the chunks together, so that what they share of a
// chunk, and the rows of x and y, which lie side by side, are read while near.
// T: of x; Y: of y.
template <class T, class Cells, class Y>
struct HeadScan {
  const Plan<Cells>& plan;
  const SsdForward& call;
  const SsdProblem& p;
  const SsdSequence& sequence;
  std::int64_t s, head0, head1;
  float *x_rows, *x_columns, *weighted;  // (steps,heads): operands of x and of weight o x
  float* scores;                         // rows operand (steps,steps)
  float* states;                         // per head, plan.scratch apart: (state,heads), and its columns operand

  HeadScan(const Plan<Cells>& plan_, const SsdForward& call_, std::int64_t s_, std::int64_t head0_, std::int64_t head1_,
           float* scratch)
      : plan(plan_), call(call_), p(call_.problem), sequence(p.sequences[s_]), s(s_), head0(head0_), head1(head1_) {
    x_rows = scratch;
    x_columns = x_rows + plan.steps * plan.heads;
    weighted = x_columns + plan.steps * plan.heads;
    scores = weighted + plan.steps * plan.heads;
    states = scores + plan.steps * plan.step_cells;
    if constexpr (Cells::kPerCell == 1) x_columns = x_rows;
  }

  float* state_of(std::int64_t h) const { return states + (h - head0) * plan.scratch; }
  float* columns_of(std::int64_t h) const {
    return Cells::kPerCell == 1 ? state_of(h) : state_of(h) + plan.state * plan.heads;
  }

  // Where the state before a chunk is saved.
  Saved<T>* saved(std::int64_t h, std::int64_t begin) const {
    return static_cast<Saved<T>*>(call.chunk_states) +
           ((sequence.first_chunk + begin / kChunk) * p.heads + h) * p.state * p.head_dim;
  }

  // The vector of z from element `at` on.
  MAMBASDK_ALWAYS_INLINE vf gate_at(std::int64_t at) const {
    return p.wide_z ? load(static_cast<const float*>(p.z.data) + at) : load(static_cast<const T*>(p.z.data) + at);
  }
  // n elements of z from element `at` on.
  MAMBASDK_ALWAYS_INLINE vf gate_row(std::int64_t at, int n) const {
    alignas(64) float gate[kLanes];
    if (p.wide_z) {
      read_row(gate, static_cast<const float*>(p.z.data) + at, p.z.stride[3], n, kLanes);
    } else {
      read_row(gate, static_cast<const T*>(p.z.data) + at, p.z.stride[3], n, kLanes);
    }
    return load(gate);
  }

  // Columns [j, j + NV vectors) of y = from_begin o (C state) + scores x + D x, then the gate. Returns whether all of
  // y before D x and the gate is finite: every input and the state are factors or terms of it, so it is not where one
  // of them is not.
  template <int NV>
  __attribute__((noinline)) bool outputs(const Decay& d, const float* c_rows, std::int64_t h, std::int64_t begin,
                                         std::int64_t count, std::int64_t j, bool empty) const {
    const float* state_columns = columns_of(h);
    // Where the task goes next.
    const std::int64_t next_head = h + 1 < head1 ? h + 1 : head0, next = h + 1 < head1 ? begin : begin + kChunk;
    const std::int64_t y_stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
    const Steps y_at = steps(p, sequence, y_stride), z_at = steps(p, sequence, p.z.stride);
    Y* y = static_cast<Y*>(call.y) + y_at.offset + begin * y_at.stride + h * p.head_dim + j;
    const bool gated = p.z.data != nullptr;
    const std::int64_t z = z_at.offset + begin * z_at.stride + h * p.z.stride[2] + j * p.z.stride[3];
    const bool whole_columns = j + NV * kLanes <= p.head_dim && (!gated || p.z.stride[3] == 1);
    vf nothing[NV] = {};  // 0 times what must be finite
    for (std::int64_t l = 0; l < count; l += kProductRows) {
      const std::int64_t rows = min64(kProductRows, count - l);
      prefetch_output(y + l * y_at.stride, y_at.stride, rows, min64(NV * kLanes, p.head_dim - j));
      prefetch_steps<T>(p, sequence, p.x, next_head, next + l, kProductRows, j, NV * kLanes);
      vf acc[kProductRows][NV];
      clear_tile(acc);
      if (!empty) {
        multiply<Cells>(acc, c_rows + l * plan.state_cells, plan.state_cells, state_columns + j, plan.heads,
                        plan.state_cells);
        scale_tile_rows(acc, d.from_begin + l);
      }
      multiply<Cells>(acc, scores + l * plan.step_cells, plan.step_cells, x_columns + j, plan.heads,
                      cells<Cells>(l + kProductRows));
#pragma GCC unroll 16
      for (int r = 0; r < kProductRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) nothing[v] += acc[r][v] * 0.0f;
      if (p.D) {
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
          const vf skip = p.skip_width == 1
                              ? set1(p.D[h])
                              : load_n(p.D + h * p.head_dim + j + v * kLanes,
                                       static_cast<int>(max64(0, min64(kLanes, p.head_dim - j - v * kLanes))));
#pragma GCC unroll 16
          for (int r = 0; r < kProductRows; ++r)
            acc[r][v] += skip * Cells::get_row(x_rows + (l + r) * plan.head_cells, j + v * kLanes);
        }
      }
      if (whole_columns && rows == kProductRows) {
        if (gated) {
#pragma GCC unroll 16
          for (int r = 0; r < kProductRows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[r][v] *= silu(gate_at(z + (l + r) * z_at.stride + v * kLanes));
        }
        store_rows(y + l * y_at.stride, y_at.stride, acc);
        continue;
      }
      alignas(64) float tile[kProductRows][NV * kLanes];
      store_tile(acc, &tile[0][0], NV * kLanes);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (int v = 0; v < NV; ++v) {
          const std::int64_t column = v * kLanes;
          const int n = static_cast<int>(min64(kLanes, p.head_dim - j - column));
          if (n <= 0) break;
          vf value = load(&tile[r][column]);
          if (gated) value *= silu(gate_row(z + (l + r) * z_at.stride + column * p.z.stride[3], n));
          store_n(y + (l + r) * y_at.stride + column, value, n);
        }
      }
    }
    float sum = 0.0f;
    for (int v = 0; v < NV; ++v) sum += reduce_add(nothing[v]);
    return sum == 0.0f;
  }

  // y and the state across a chunk, step by step.
  __attribute__((noinline)) void recur(const Decay& d, std::int64_t h, std::int64_t begin, std::int64_t count) const {
    const std::int64_t g = h / (p.heads / p.groups), ld = plan.heads;
    const std::int64_t y_stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
    const Steps y_at = steps(p, sequence, y_stride), z_at = steps(p, sequence, p.z.stride);
    float *x = weighted, *out = weighted + ld, *state = state_of(h);  // rows
    for (std::int64_t i = 0; i < count; ++i) {
      read_chunk<T>(x, ld, p, sequence, p.x, h, begin + i, 1, 1, p.head_dim);
      step_state<T>(p, sequence, h, begin + i, x, d.source[i], step_decay(p, sequence, h, begin + i, d.dt[i]), state,
                    ld);
      Y* y = static_cast<Y*>(call.y) + y_at.offset + (begin + i) * y_at.stride + h * p.head_dim;
      const std::int64_t z = z_at.offset + (begin + i) * z_at.stride + h * p.z.stride[2];
      for (std::int64_t j = 0; j < ld; j += kLanes) store(out + j, zero());
      for (std::int64_t n = 0; n < p.state; ++n) {
        const float c = element_at<T>(p, sequence, p.C, g, begin + i, n);
        for (std::int64_t j = 0; j < ld; j += kLanes) store(out + j, load(out + j) + load(state + n * ld + j) * c);
      }
      for (std::int64_t j = 0; j < p.head_dim; j += kLanes) {
        const int n = static_cast<int>(min64(kLanes, p.head_dim - j));
        vf value = load(out + j);
        if (p.D) value += (p.skip_width == 1 ? set1(p.D[h]) : load_n(p.D + h * p.head_dim + j, n)) * load(x + j);
        if (p.z.data) value *= silu(gate_row(z + j * p.z.stride[3], n));
        store_n(y + j, value, n);
      }
    }
    if constexpr (Cells::kPerCell != 1)
      to_columns<Cells>(columns_of(h), plan.heads, state, plan.heads, plan.state, plan.heads);
  }

  // Columns [j, j + NV vectors) of the state across the chunk: through o state + B^T (weight o x). Saved where `save`
  // points to.
  template <int NV>
  __attribute__((noinline)) void carry(float through, const float* bt_rows, std::int64_t h, std::int64_t j,
                                       Saved<T>* save) const {
    float *state = state_of(h), *state_columns = columns_of(h);
    const bool whole_columns = j + NV * kLanes <= p.head_dim;
    for (std::int64_t n = 0; n < plan.state; n += kProductRows) {
      const std::int64_t rows = save ? min64(kProductRows, p.state - n) : 0;
      if (rows > 0) prefetch_output(save + n * p.head_dim + j, p.head_dim, rows, min64(NV * kLanes, p.head_dim - j));
      vf acc[kProductRows][NV];
      clear_tile(acc);
      multiply<Cells>(acc, bt_rows + n * plan.step_cells, plan.step_cells, weighted + j, plan.heads, plan.step_cells);
      add_tile(acc, set1(through), state + n * plan.heads + j, plan.heads);
      store_tile(acc, state + n * plan.heads + j, plan.heads);
      if constexpr (Cells::kPerCell != 1) put_tile<Cells>(state_columns + j, plan.heads, n, acc);
      if (rows == kProductRows && whole_columns) {
        store_rows(save + n * p.head_dim + j, p.head_dim, acc);
      } else {
        for (std::int64_t r = 0; r < rows; ++r)
          write_row(save + (n + r) * p.head_dim + j, state + (n + r) * plan.heads + j,
                    min64(NV * kLanes, p.head_dim - j));
      }
    }
  }

  void start(std::int64_t h) const {
    read_state(plan, p, state_of(h), p.initial_state, s, h);
    if constexpr (Cells::kPerCell != 1)
      to_columns<Cells>(columns_of(h), plan.heads, state_of(h), plan.heads, plan.state, plan.heads);
    if (call.chunk_states && sequence.length > 0) save_state(h, 0);
  }
  // The state before the chunk that begins at `begin`.
  void save_state(std::int64_t h, std::int64_t begin) const {
    for (std::int64_t n = 0; n < p.state; ++n)
      write_row(saved(h, begin) + n * p.head_dim, state_of(h) + n * plan.heads, p.head_dim);
  }

  // Head h, steps from `begin` on. `group`: what the heads share; `empty`: the state is zero.
  void step(std::int64_t h, std::int64_t begin, const float* group, bool empty, Decay& d) const {
    const std::int64_t count = min64(kChunk, sequence.length - begin);
    make_decay<T>(d, p, sequence, h, begin, count);
    read_rows<T, Cells>(x_rows, plan.head_cells, p, sequence, p.x, h, begin, count, plan.steps, p.head_dim);
    Cells::columns_and_scaled(x_columns, weighted, plan.heads, x_rows, plan.head_cells, plan.steps, plan.heads,
                              d.weight);
    make_scores(scores, plan, group + plan.cb, d);
    const bool last = begin + kChunk >= sequence.length;
    bool finite = true;
    for_stripes(plan.heads, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      finite &= outputs<decltype(width)::value>(d, group + plan.c_rows, h, begin, count, j, empty);
    });
    if (__builtin_expect(!finite, 0)) {
      recur(d, h, begin, count);
      if (call.chunk_states && !last) save_state(h, begin + kChunk);
      return;
    }
    if (last && !call.final_state) return;
    for_stripes(plan.heads, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      carry<decltype(width)::value>(d.through, group + plan.bt_rows, h, j,
                                    call.chunk_states && !last ? saved(h, begin + kChunk) : nullptr);
    });
  }

  void run(const float* groups) const {
    const std::int64_t g = head0 / (p.heads / p.groups);
    Decay d;
    for (std::int64_t h = head0; h < head1; ++h) start(h);
    for (std::int64_t begin = 0; begin < sequence.length; begin += kChunk) {
      const float* group = groups + ((sequence.first_chunk + begin / kChunk) * p.groups + g) * plan.group;
      const bool empty = begin == 0 && p.initial_state.data == nullptr;
      for (std::int64_t h = head0; h < head1; ++h) step(h, begin, group, empty, d);
    }
    for (std::int64_t h = head0; call.final_state && h < head1; ++h)
      write_state(plan, p, call.final_state, state_of(h), s, h);
  }
};

template <class T, class Cells, class Y>
void run(const SsdForward& call, float* workspace, const Parallel& parallel) {
  const SsdProblem& p = call.problem;
  const Plan<Cells> plan(p);
  float* groups = workspace;
  float* scratch = workspace + plan.groups_size(p);
  for_group_chunks(
      plan, p, parallel,
      [&](const SsdSequence& sequence, std::int64_t g, std::int64_t step, std::int64_t t, std::int64_t slot) {
        prepare_group<T>(plan, p, sequence, g, step, groups + t * plan.group, scratch + slot * plan.scratch);
      });
  const std::int64_t tasks = p.sequence_count * p.heads;
  // What a range of slots has of scratch memory bounds the heads that go together; results do not depend on them.
  parallel(plan.slots, 1, [&](std::int64_t begin, std::int64_t end) {
    [[maybe_unused]] const typename Cells::Session session;
    const FlushDenormals flush;
    const std::int64_t group_heads = p.heads / p.groups, last = end * tasks / plan.slots;
    for (std::int64_t t = begin * tasks / plan.slots, next = t; t < last; t = next) {
      const std::int64_t h = t % p.heads;
      next = min64(min64(last, t + min64(kHeadsTogether, end - begin)), t + group_heads - h % group_heads);
      HeadScan<T, Cells, Y>(plan, call, t / p.heads, h, h + next - t, scratch + begin * plan.scratch).run(groups);
    }
  });
}

}  // namespace

std::int64_t ssd_workspace_bytes(const SsdForward& call) {
  const SsdProblem& p = call.problem;
  MAMBASDK_SHARE_AVX512(p.dtype == dtype::bf16, ssd_workspace_bytes(call));
  return with_cells(p.dtype, [&]<class T, class Cells>(T, Cells) {
    return Plan<Cells>(p).floats(p) * static_cast<std::int64_t>(sizeof(float));
  });
}

void ssd(const SsdForward& call, void* workspace, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(call.problem.dtype == dtype::bf16, ssd(call, workspace, parallel));
  with_cells(call.problem.dtype, [&]<class T, class Cells>(T, Cells) {
    float* work = static_cast<float*>(workspace);
    if (call.wide_y) return run<T, Cells, Saved<T>>(call, work, parallel);
    run<T, Cells, T>(call, work, parallel);
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
