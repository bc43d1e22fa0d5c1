// The derivative of one head in one chunk. For *.isa.cpp only.
//
// With l, m steps of the chunk, m <= l, and scores M = CB^T o decay o source:
//   dM = dY X^T            dCB^T += dM o decay o source        (both transposed here: m rows, l along vectors)
//   dU = to_end o (B dS) + (CB^T o decay)^T dY                  dx = source o dU + D dY
//   dC^T += from_begin o (S^T dY^T),  dB^T += dS^T (weight o X)^T; dCB^T joins both when all heads are done
//   dS = through dS + C^T (from_begin o dY)
// States and their gradients are (N,P) here. Every product is a function of its own: inlined into one, the compiler
// runs out of registers inside their loops.
#pragma once

#include "ops/ssd/backward_plan.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// Sums over a head's chunks.
struct HeadSums {
  double A = 0.0, dt_bias = 0.0;
};

// Columns [j, j + NV vectors) of to = through * from + a columns: the state across a chunk, or its gradient back across
// it. `to` may be `from`.
template <int NV, class Cells>
__attribute__((noinline)) void carry_stripe(const Plan<Cells>& plan, float* to, const float* from, float through,
                                            const float* a, const float* columns, std::int64_t j) {
  for (std::int64_t n = 0; n < plan.state; n += kTileRows) {
    vf acc[kTileRows][NV];
    load_tile(acc, from + n * plan.heads + j, plan.heads);
    scale_tile(acc, set1(through));
    multiply<Cells>(acc, a + n * plan.step_cells, plan.step_cells, columns + j, plan.heads, plan.step_cells);
    store_tile(acc, to + n * plan.heads + j, plan.heads);
  }
}

// The same for the gradient of a state, with its operands. dot += the gradient after the chunk o the state before it.
template <int NV, class Cells>
__attribute__((noinline)) void carry_gradient(const Plan<Cells>& plan, const StateGradient& grad, float through,
                                              const float* a, const float* columns, std::int64_t j,
                                              const float* state_rows, float* dot) {
  vf sum[2][NV];
  load_tile(sum, dot, NV * kLanes);
  for (std::int64_t n = 0; n < plan.state; n += kTileRows) {
    vf acc[kTileRows][NV];
    load_tile(acc, grad.values + n * plan.heads + j, plan.heads);
    if (state_rows) {
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v)
          sum[r % 2][v] += acc[r][v] * Cells::get_row(state_rows + (n + r) * plan.head_cells, j + v * kLanes);
    }
    scale_tile(acc, set1(through));
    multiply<Cells>(acc, a + n * plan.step_cells, plan.step_cells, columns + j, plan.heads, plan.step_cells);
    store_tile(acc, grad.values + n * plan.heads + j, plan.heads);
    if constexpr (Cells::kPerCell != 1) {
      put_tile<Cells>(grad.columns + j, plan.heads, n, acc);
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) Cells::put_row(grad.rows + (n + r) * plan.head_cells, j + v * kLanes, acc[r][v]);
    }
  }
  store_tile(sum, dot, NV * kLanes);
}

template <class T, class Cells>
struct ChunkDerivative {
  const Plan<Cells>& plan;
  const SsdBackward& call;
  const SsdProblem& p;
  const SsdSequence& sequence;
  std::int64_t s, head0, head1;  // the task's heads: [head0, head1)
  const Partials& partials;
  const Scratch& at;

  // Sums over lanes wait here, one vector a step, until all stripes are done.
  struct Dots {
    alignas(64) float input[kChunk * kLanes];   // x . dU
    alignas(64) float write[kChunk * kLanes];   // x . (B dS)
    alignas(64) float column[kChunk * kLanes];  // over later steps of dM o M
  };

  // grad_y of one chunk, through the gate; writes grad_z.
  void read_grad_y(std::int64_t h, std::int64_t begin, std::int64_t count) const {
    if (!p.z.data)
      return read_rows<T, Cells>(at.dy_rows, plan.head_cells, p, sequence, call.grad_y, h, begin, count, plan.steps,
                                 p.head_dim);
    read_chunk<T>(at.grad_y, plan.heads, p, sequence, call.grad_y, h, begin, count, plan.steps, p.head_dim);
    read_chunk<T>(at.gate, plan.heads, p, sequence, p.z, h, begin, count, plan.steps, p.head_dim);
    const std::int64_t stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
    const Steps where = steps(p, sequence, stride);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = where.offset + (begin + i) * where.stride + h * p.head_dim;
      for (std::int64_t j = 0; j < p.head_dim; j += kLanes) {
        const int n = static_cast<int>(min64(kLanes, p.head_dim - j));
        const vf z = load(at.gate + i * plan.heads + j), gate = sigmoid(z);
        const vf grad = load(at.grad_y + i * plan.heads + j);
        const vf ungated = load_n(static_cast<const T*>(call.ungated) + row + j, n);
        store_n(static_cast<T*>(call.grad_z) + row + j, grad * ungated * gate * (1.0f + z * (1.0f - gate)), n);
        store(at.grad_y + i * plan.heads + j, grad * z * gate);
      }
    }
    to_rows<Cells>(at.dy_rows, plan.head_cells, at.grad_y, plan.heads, plan.steps, plan.heads);
  }

  // The operands of x and dY that products need.
  void make_operands(const Decay& d) const {
    transpose(at.dyt, plan.steps, at.dy_rows, plan.head_cells, plan.steps, plan.head_cells);
    for (std::int64_t m = 0; m < plan.steps; ++m)
      for (std::int64_t j = 0; j < plan.heads; j += kLanes)
        Cells::put_row(at.weighted_rows + m * plan.head_cells, j,
                       set1(d.weight[m]) * Cells::get_row(at.x_rows + m * plan.head_cells, j));
    transpose(at.weighted_xt, plan.steps, at.weighted_rows, plan.head_cells, plan.steps, plan.head_cells);
    if constexpr (Cells::kPerCell != 1)
      Cells::columns_of_rows(at.dy_columns, plan.heads, at.dy_rows, plan.head_cells, plan.steps, plan.head_cells);
    scaled_columns<Cells>(at.dye_columns, plan.heads, at.dy_rows, plan.head_cells, plan.steps, plan.heads,
                          d.from_begin);
  }

  // Products over pairs of steps, columns [j, j + NV vectors): at.scores^T, dCB^T (added to unless `first`), and the
  // sums of dM o M over its strict rows and columns.
  template <int NV>
  __attribute__((noinline)) void pairs(const float* cbt, const Decay& d, std::int64_t j, float* dcbt, bool first,
                                       float* row_sum, Dots& dots) const {
    vf row[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) row[v] = zero();
    for (std::int64_t m0 = 0; m0 < min64(plan.steps, j + NV * kLanes); m0 += kTileRows) {
      vf acc[kTileRows][NV], column[kTileRows];
      clear_tile(acc);
      multiply<Cells>(acc, at.x_rows + m0 * plan.head_cells, plan.head_cells, at.dyt + j, plan.steps, plan.head_cells);
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r)
        column[r] = j > m0 / kTileColumns * kTileColumns ? load(dots.column + (m0 + r) * kLanes) : zero();
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        const std::int64_t l = j + v * kLanes, block = l / kDecayBlock;
        if (d.factored && m0 < block * kDecayBlock) {
          const vf late = load(d.late + l);
#pragma GCC unroll 16
          for (int r = 0; r < kTileRows; ++r) {
            const std::int64_t m = m0 + r;
            const vf decay = late * set1(d.early[block][m]), cb = load(cbt + m * plan.steps + l);
            const vf dm = acc[r][v] * (decay * set1(d.source[m])), both = dm * cb;
            Cells::put_row(at.scores + m * plan.step_cells, l, cb * decay);
            store(dcbt + m * plan.steps + l, first ? dm : load(dcbt + m * plan.steps + l) + dm);
            row[v] += both;
            column[r] += both;
          }
          continue;
        }
        if (m0 >= l + kLanes) {  // later than every lane
          for (int r = 0; first && r < kTileRows; ++r) store(dcbt + (m0 + r) * plan.steps + l, zero());
          continue;
        }
        const vi late = lane_index(l), visible_from = load_int(d.first + l);
        const vf s_late = load(d.s + l), low_late = load(d.s_low + l);
        for (int r = 0; r < kTileRows; ++r) {
          const std::int64_t m = m0 + r;
          const vi early = vi{} + static_cast<std::int32_t>(m);
          const vf decay = decay_between(s_late, low_late, set1(d.s[m]), set1(d.s_low[m]),
                                         (early <= late) & (early >= visible_from));
          const vf cb = load(cbt + m * plan.steps + l);
          const vf dm = acc[r][v] * (decay * set1(d.source[m])), both = select(early != late, dm * cb, zero());
          Cells::put_row(at.scores + m * plan.step_cells, l, cb * decay);
          store(dcbt + m * plan.steps + l, first ? dm : load(dcbt + m * plan.steps + l) + dm);
          row[v] += both;
          column[r] += both;
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) store(dots.column + (m0 + r) * kLanes, column[r]);
    }
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) store(row_sum + j + v * kLanes, row[v]);
  }

  // Columns [j, j + NV vectors) of grad_x of one chunk; sums for the gradients of dt and D. `columns`: operand of dS,
  // null where that is zero.
  template <int NV>
  __attribute__((noinline)) void inputs(std::int64_t h, std::int64_t begin, std::int64_t count, const float* b_rows,
                                        const float* columns, const float* state_rows, const Decay& d, std::int64_t j,
                                        Dots& dots) const {
    const std::int64_t stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
    const Steps where = steps(p, sequence, stride);
    T* out = static_cast<T*>(call.grad_x) + where.offset + begin * where.stride + h * p.head_dim + j;
    // The head and the step where the task goes next.
    const std::int64_t h1 = h + 1 < head1 ? h + 1 : head0, next = h1 > h ? begin : begin - kChunk;
    const std::int64_t share = plan.carry / Cells::kPerCell * kTileRows * NV * kLanes / plan.tile;  // of state_rows
    vf skip[NV], skip_sum[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const int n = static_cast<int>(max64(0, min64(kLanes, p.head_dim - j - v * kLanes)));
      skip[v] = zero();
      if (p.D) skip[v] = p.skip_width == 1 ? set1(p.D[h]) : load_n(p.D + h * p.head_dim + j + v * kLanes, n);
      skip_sum[v] = load(partials.D + (s * p.heads + h) * plan.heads + j + v * kLanes);
    }
    for (std::int64_t m0 = 0; m0 < count; m0 += kTileRows) {
      const std::int64_t rows = min64(kTileRows, count - m0);
      prefetch_output(out + m0 * where.stride, where.stride, rows, min64(NV * kLanes, p.head_dim - j));
      if (next >= 0) {
        prefetch_steps<T>(p, sequence, p.x, h1, next + m0, kTileRows, j, NV * kLanes);
        prefetch_steps<T>(p, sequence, call.grad_y, h1, next + m0, kTileRows, j, NV * kLanes);
      }
      if (state_rows)  // what comes after this
        for (std::int64_t i = 0; i < share; i += 64 / static_cast<std::int64_t>(sizeof(float)))
          __builtin_prefetch(state_rows + (j * plan.steps / (NV * kLanes) + m0) / kTileRows * share + i, 0, 2);
      vf acc[kTileRows][NV];
      clear_tile(acc);
      if (columns) {
        multiply<Cells>(acc, b_rows + m0 * plan.state_cells, plan.state_cells, columns + j, plan.heads,
                        plan.state_cells);
#pragma GCC unroll 16
        for (int r = 0; r < kTileRows; ++r) {
          vf dot = j > 0 ? load(dots.write + (m0 + r) * kLanes) : zero();
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v)
            dot += acc[r][v] * Cells::get_row(at.x_rows + (m0 + r) * plan.head_cells, j + v * kLanes);
          store(dots.write + (m0 + r) * kLanes, dot);
        }
        scale_tile_rows(acc, d.to_end + m0);
      }
      const std::int64_t k0 = cells<Cells>(m0);
      multiply<Cells>(acc, at.scores + m0 * plan.step_cells + k0, plan.step_cells, at.dy_columns + k0 * plan.heads + j,
                      plan.heads, plan.step_cells - k0);
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) {
        vf dot = j > 0 ? load(dots.input + (m0 + r) * kLanes) : zero();
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
          const vf x = Cells::get_row(at.x_rows + (m0 + r) * plan.head_cells, j + v * kLanes);
          const vf dy = Cells::get_row(at.dy_rows + (m0 + r) * plan.head_cells, j + v * kLanes);
          dot += acc[r][v] * x;
          skip_sum[v] += x * dy;
          acc[r][v] = acc[r][v] * set1(d.source[m0 + r]) + skip[v] * dy;
        }
        store(dots.input + (m0 + r) * kLanes, dot);
      }
      if (rows == kTileRows && j + NV * kLanes <= p.head_dim) {
#pragma GCC unroll 16
        for (int r = 0; r < kTileRows; ++r) store_vectors(out + (m0 + r) * where.stride, acc[r]);
        continue;
      }
      alignas(64) float tile[kTileRows][NV * kLanes];
      store_tile(acc, &tile[0][0], NV * kLanes);
      for (std::int64_t r = 0; r < rows; ++r)
        write_row(out + (m0 + r) * where.stride, &tile[r][0], min64(NV * kLanes, p.head_dim - j));
    }
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) store(partials.D + (s * p.heads + h) * plan.heads + j + v * kLanes, skip_sum[v]);
  }

  // dC^T (state,steps), columns [j, j + NV vectors), += t, where t = from_begin o (S dY^T); it becomes t when `first`.
  // from_state[l] = C[l,n] t[n,l] over n.
  template <int NV>
  __attribute__((noinline)) void reads(float* dct, bool first, const float* state_rows, const float* ct_rows,
                                       const Decay& d, std::int64_t j, float* from_state) const {
    vf scale[NV], total[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      scale[v] = load(d.from_begin + j + v * kLanes);
      total[v] = zero();
    }
    for (std::int64_t n = 0; n < plan.state; n += kTileRows) {
      float* out = dct + n * plan.steps + j;
      vf acc[kTileRows][NV];
      clear_tile(acc);
      multiply<Cells>(acc, state_rows + n * plan.head_cells, plan.head_cells, at.dyt + j, plan.steps, plan.head_cells);
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
          const vf t = acc[r][v] * scale[v];
          total[v] += t * Cells::get_row(ct_rows + (n + r) * plan.step_cells, j + v * kLanes);
          store(out + r * plan.steps + v * kLanes, first ? t : load(out + r * plan.steps + v * kLanes) + t);
        }
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) store(from_state + j + v * kLanes, total[v]);
  }

  // dB^T (state,steps), columns [j, j + NV vectors), += dS (weight o X)^T; it becomes that when `first`.
  template <int NV>
  __attribute__((noinline)) void writes(float* dbt, bool first, const float* grad_rows, std::int64_t j) const {
    for (std::int64_t n = 0; n < plan.state; n += kTileRows) {
      vf acc[kTileRows][NV];
      if (first)
        clear_tile(acc);
      else
        load_tile(acc, dbt + n * plan.steps + j, plan.steps);
      multiply<Cells>(acc, grad_rows + n * plan.head_cells, plan.head_cells, at.weighted_xt + j, plan.steps,
                      plan.head_cells);
      store_tile(acc, dbt + n * plan.steps + j, plan.steps);
    }
  }

  // Head h, steps from `begin` on. `shared`: the group's operands of the chunk; `part`: the task's sums over its heads;
  // state_rows: the state before the chunk, null where that is zero; grad: the gradient of the state after it, zero
  // when not `has_grad`, which becomes that of the state before it.
  void run(std::int64_t h, std::int64_t begin, const float* shared, float* part, const float* state_rows,
           const StateGradient& grad, bool has_grad, Decay& d, HeadSums& sums) const {
    const std::int64_t count = min64(kChunk, sequence.length - begin);
    const bool first = h == head0;
    alignas(64) float row_sum[kChunk] = {}, column_sum[kChunk] = {}, direct[kChunk] = {};
    alignas(64) float from_state[kChunk] = {}, to_state[kChunk] = {};
    Dots dots;
    make_decay<T>(d, p, sequence, h, begin, count);
    read_rows<T, Cells>(at.x_rows, plan.head_cells, p, sequence, p.x, h, begin, count, plan.steps, p.head_dim);
    read_grad_y(h, begin, count);
    make_operands(d);
    for_stripes(plan.steps, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      pairs<decltype(width)::value>(shared + plan.cbt, d, j, part + plan.dcbt, first, row_sum, dots);
    });
    lane_sums(column_sum, dots.column, plan.steps);
    for_stripes(plan.heads, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      inputs<decltype(width)::value>(h, begin, count, shared + plan.b_rows, has_grad ? grad.columns : nullptr,
                                     state_rows, d, j, dots);
    });
    const std::int64_t covered = round_up(count, kTileRows);
    for (std::int64_t m = covered; m < plan.steps; ++m) {
      store(dots.input + m * kLanes, zero());
      store(dots.write + m * kLanes, zero());
    }
    lane_sums(direct, dots.input, plan.steps);
    if (has_grad) {
      lane_sums(to_state, dots.write, plan.steps);
      for (std::int64_t m = 0; m < plan.steps; m += kLanes)
        store(to_state + m, load(to_state + m) * load(d.weight + m));
    }
    for_stripes(plan.steps, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      if (state_rows)
        reads<decltype(width)::value>(part + plan.dct, first, state_rows, shared + plan.ct_rows, d, j, from_state);
    });
    if (!state_rows && first) clear(part + plan.dct, plan.outer);
    for_stripes(plan.steps, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      if (has_grad) writes<decltype(width)::value>(part + plan.dbt, first, grad.rows, j);
    });
    if (!has_grad && first) clear(part + plan.dbt, plan.outer);
    double through = 0.0;
    if (begin > 0 || p.initial_state.data) {
      vf dot = zero();
      for_stripes(plan.heads, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
        constexpr int NV = decltype(width)::value;
        alignas(64) float sum[2][NV * kLanes] = {};
        carry_gradient<NV>(plan, grad, d.through, shared + plan.ct_rows, at.dye_columns, j,
                           has_grad ? state_rows : nullptr, &sum[0][0]);
        for (int v = 0; v < NV; ++v) dot += load(&sum[0][v * kLanes]) + load(&sum[1][v * kLanes]);
      });
      if (d.through != 0.0f) through = static_cast<double>(d.through * reduce_add(dot));
    }
    grad_dt(h, begin, count, d, row_sum, column_sum, direct, from_state, to_state, through, sums);
  }

  // The decay of step t acts on every pair (l,m) with m < t <= l, on the reads of the old state from t on, on the
  // contributions to the new state from before t, and on the state that passes through.
  void grad_dt(std::int64_t h, std::int64_t begin, std::int64_t count, const Decay& d, const float* row_sum,
               const float* column_sum, const float* direct, const float* from_state, const float* to_state,
               double through, HeadSums& sums) const {
    alignas(64) float raw[kChunk], slope[kChunk];
    read_dt<T>(raw, p, sequence, h, begin, count);
    for (std::int64_t i = 0; i < kChunk; i += kLanes) {
      const vf v = load(raw + i), dt = p.dt_softplus ? softplus(v) : v;
      vf rate = set1(1.0f);
      if (p.dt_softplus) rate = select(v > set1(20.0f), rate, sigmoid(v));
      store(slope + i, select((dt < set1(p.dt_min)) | (dt > set1(p.dt_max)), zero(), rate));
    }
    double reads[kChunk + 1];
    reads[count] = 0.0;
    for (std::int64_t t = count - 1; t >= 0; --t) reads[t] = reads[t + 1] + static_cast<double>(from_state[t]);
    const std::int64_t stride[3] = {p.length * p.heads, p.heads, 1};
    const Steps where = steps(p, sequence, stride);
    T* out = static_cast<T*>(call.grad_dt) + where.offset + begin * where.stride + h;
    double crossing = 0.0, writes = 0.0;
    for (std::int64_t t = 0; t < count; ++t) {
      const double log_decay = crossing + reads[t] + writes + through;
      const double grad = log_decay * static_cast<double>(p.A[h]) + (p.dt_on_x ? static_cast<double>(direct[t]) : 0.0);
      const double grad_raw = grad * static_cast<double>(slope[t]);
      out[t * where.stride] = from_float<T>::cast(static_cast<float>(grad_raw));
      sums.dt_bias += grad_raw;
      sums.A += log_decay * static_cast<double>(d.dt[t]);
      crossing += static_cast<double>(column_sum[t]) - static_cast<double>(row_sum[t]);
      writes += static_cast<double>(to_state[t]);
    }
  }
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
