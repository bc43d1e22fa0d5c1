// The derivative of one head in one chunk by matrix products. For *.isa.cpp only.
//
// With l, m steps of the chunk, m <= l, and scores M = CB^T o decay o source:
//   dM = dY X^T            dCB^T += dM o decay o source        (both transposed here: m rows, l along vectors)
//   dU = to_end o (B dS) + (CB^T o decay)^T dY                  dx = source o dU + D dY
//   x . dU = to_end o x . (B dS) + the sums over l of dM o CB^T o decay, dM before its factors
//   dC^T += from_begin o (S^T dY^T),  dB^T += weight o (dS^T X^T); dCB^T joins both when all heads are done
//   dS = through dS + C^T (from_begin o dY)
// States and their gradients are (N,P) here. Every product is a function of its own: inlined into one, the compiler
// runs out of registers inside their loops.
#pragma once

#include "ops/ssd/backward_steps.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// Columns [j, j + NV vectors) of to = through * from + a columns: the state across a chunk, or its gradient back across
// it. `to` may be `from`.
template <int NV, class Cells>
__attribute__((noinline)) void carry_stripe(const Plan<Cells>& plan, float* to, const float* from, float through,
                                            const float* a, const float* columns, std::int64_t j) {
  for (std::int64_t n = 0; n < plan.state; n += kProductRows) {
    vf acc[kProductRows][NV];
    clear_tile(acc);
    multiply<Cells>(acc, a + n * plan.step_cells, plan.step_cells, columns + j, plan.heads, plan.step_cells);
    add_tile(acc, set1(through), from + n * plan.heads + j, plan.heads);
    store_tile(acc, to + n * plan.heads + j, plan.heads);
  }
}

// The same for the gradient of a state, with its operands.
template <int NV, class Cells>
__attribute__((noinline)) void carry_gradient(const Plan<Cells>& plan, const StateGradient& grad, float through,
                                              const float* a, const float* columns, std::int64_t j) {
  for (std::int64_t n = 0; n < plan.state; n += kProductRows) {
    vf acc[kProductRows][NV];
    clear_tile(acc);
    multiply<Cells>(acc, a + n * plan.step_cells, plan.step_cells, columns + j, plan.heads, plan.step_cells);
    add_tile(acc, set1(through), grad.values + n * plan.heads + j, plan.heads);
    store_tile(acc, grad.values + n * plan.heads + j, plan.heads);
    if constexpr (Cells::kPerCell != 1) {
      put_tile<Cells>(grad.columns + j, plan.heads, n, acc);
      put_tile_rows<Cells>(grad.rows, plan.head_cells, n, j, acc);
    }
  }
}

alignas(64) constexpr float kNothing[kChunk] = {};  // what the first head of a task adds to

template <class T, class Cells>
struct ChunkDerivative : HeadDerivative<T, Cells> {
  static_assert(kProductColumns <= kChunk);
  using Base = HeadDerivative<T, Cells>;
  using Base::at, Base::call, Base::head0, Base::head1, Base::p, Base::partials, Base::plan, Base::s, Base::sequence;
  using Base::put_grad_dt, Base::read_grad_y, Base::recur;

  // Sums over lanes wait here, one vector a step, until all stripes are done.
  struct Dots {
    alignas(64) float write[kChunk * kLanes];   // x . (B dS)
    alignas(64) float column[kChunk * kLanes];  // over later steps of dM o CB^T o decay
    // Of the pairs of a step with an earlier one, dM o M; of a step with itself, dM o CB^T and x . dY.
    alignas(64) float row[kChunk], own[kChunk], skip[kChunk];
  };

  // The operands of x and dY that products need.
  void make_operands(const Decay& d) const {
    transpose(at.dyt, plan.steps, at.dy_rows, plan.head_cells, plan.steps, plan.head_cells);
    transpose(at.xt, plan.steps, at.x_rows, plan.head_cells, plan.steps, plan.head_cells);
    Cells::columns_and_scaled(at.dy_columns, at.dye_columns, plan.heads, at.dy_rows, plan.head_cells, plan.steps,
                              plan.heads, d.from_begin);
  }

  // Products over pairs of steps, rows m from m0 on and columns l from j on: at.scores^T with the source, dCB^T (added
  // to unless `first`), and sums. Columns before those of m0 are neither written nor read anywhere.
  template <int NV, bool kIsBounded>
  __attribute__((noinline)) void pairs(const float* cbt, const Decay& d, std::int64_t m0, std::int64_t j, float* dcbt,
                                       bool first, Dots& dots) const {
    vf acc[kProductRows][NV], column[kProductRows];
    clear_tile(acc);
    multiply<Cells>(acc, at.x_rows + m0 * plan.head_cells, plan.head_cells, at.dyt + j, plan.steps, plan.head_cells);
    const bool opens = j == m0 / kLanes * kLanes;
    const float* old = first ? kNothing : dcbt;
    const std::int64_t apart = first ? 0 : plan.steps;
#pragma GCC unroll 16
    for (int r = 0; r < kProductRows; ++r) column[r] = opens ? zero() : load(dots.column + (m0 + r) * kLanes);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const std::int64_t l = j + v * kLanes, block = l / kDecayBlock;
      const bool earlier = v * kLanes >= kDecayBlock || m0 < block * kDecayBlock;
      vf row = load(dots.row + l);
      const auto add = [&](int r, vf decay, vf score, vf both) __attribute__((always_inline)) {
        const std::int64_t m = m0 + r;
        const vf source = set1(d.source[m]);
        Cells::put_row(at.scores + m * plan.step_cells, l, score * source);
        store(dcbt + m * plan.steps + l, acc[r][v] * (decay * source) + load(old + m * apart + l));
        row += both * source;
        column[r] += both;
      };
      if (earlier && (kIsBounded || d.factored)) {
        const vf late = load(d.late + l);
#pragma GCC unroll 16
        for (int r = 0; r < kProductRows; ++r) {
          const vf decay = late * set1(d.early[block][m0 + r]), score = load(cbt + (m0 + r) * plan.steps + l) * decay;
          add(r, decay, score, acc[r][v] * score);
        }
      } else {
        const vi late_step = lane_index(l), visible_from = load_int(d.first + l);
        const vf late = load(d.late + l), s_late = load(d.s + l), low_late = load(d.s_low + l);
        vf own = load(dots.own + l), skip = load(dots.skip + l);
#pragma GCC unroll 16
        for (int r = 0; r < kProductRows; ++r) {
          const std::int64_t m = m0 + r;
          const vi early_step = vi{} + static_cast<std::int32_t>(m), same = early_step == late_step;
          vf decay;
          if constexpr (kIsBounded) {
            decay = select(early_step <= late_step, late * set1(d.early[block][m]), zero());
          } else {
            decay = decay_between(s_late, low_late, set1(d.s[m]), set1(d.s_low[m]),
                                  (early_step <= late_step) & (early_step >= visible_from));
          }
          const vf score = load(cbt + m * plan.steps + l) * decay, both = acc[r][v] * score;
          own += select(same, both, zero());
          skip += select(same, acc[r][v], zero());
          add(r, decay, score, select(same, zero(), both));
        }
        store(dots.own + l, own);
        store(dots.skip + l, skip);
      }
      store(dots.row + l, row);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kProductRows; ++r) store(dots.column + (m0 + r) * kLanes, column[r]);
  }

  template <bool kIsBounded>
  void all_pairs(const float* cbt, const Decay& d, float* dcbt, bool first, Dots& dots) const {
    for (std::int64_t m0 = 0; m0 < plan.steps; m0 += kProductRows) {
      const std::int64_t from = m0 / kLanes * kLanes;
      if (kProductVectors > 3 && plan.steps - from == 3 * kLanes) {
        pairs<3, kIsBounded>(cbt, d, m0, from, dcbt, first, dots);
        continue;
      }
      for_stripes(plan.steps - from, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
        pairs<decltype(width)::value, kIsBounded>(cbt, d, m0, from + j, dcbt, first, dots);
      });
    }
  }

  // The gradient of D per channel: sums of x o dY over steps.
  __attribute__((noinline)) void skip_gradient(float* out) const {
    for (std::int64_t j = 0; j < plan.heads; j += kLanes) {
      vf sum = load(out + j);
      for (std::int64_t m = 0; m < plan.steps; ++m)
        sum += Cells::get_row(at.x_rows + m * plan.head_cells, j) * Cells::get_row(at.dy_rows + m * plan.head_cells, j);
      store(out + j, sum);
    }
  }

  // Columns [j, j + NV vectors) of grad_x of one chunk; sums for the gradient of dt. `columns`: operand of dS, null
  // where that is zero.
  template <int NV>
  __attribute__((noinline)) void inputs(std::int64_t h, std::int64_t begin, std::int64_t count, const float* b_rows,
                                        const float* columns, const float* state_rows, const Decay& d, std::int64_t j,
                                        Dots& dots) const {
    const std::int64_t stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
    const Steps where = steps(p, sequence, stride);
    T* out = static_cast<T*>(call.grad_x) + where.offset + begin * where.stride + h * p.head_dim + j;
    // The head and the step where the task goes next.
    const std::int64_t h1 = h + 1 < head1 ? h + 1 : head0, next = h1 > h ? begin : begin - kChunk;
    const std::int64_t share = plan.carry / Cells::kPerCell * kProductRows * NV * kLanes / plan.tile;  // of state_rows
    vf skip[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const int n = static_cast<int>(max64(0, min64(kLanes, p.head_dim - j - v * kLanes)));
      skip[v] = zero();
      if (p.D) skip[v] = p.skip_width == 1 ? set1(p.D[h]) : load_n(p.D + h * p.head_dim + j + v * kLanes, n);
    }
    for (std::int64_t m0 = 0; m0 < count; m0 += kProductRows) {
      const std::int64_t rows = min64(kProductRows, count - m0);
      prefetch_output(out + m0 * where.stride, where.stride, rows, min64(NV * kLanes, p.head_dim - j));
      if (next >= 0) {
        prefetch_steps<T>(p, sequence, p.x, h1, next + m0, kProductRows, j, NV * kLanes);
        prefetch_steps<T>(p, sequence, call.grad_y, h1, next + m0, kProductRows, j, NV * kLanes);
      }
      if (state_rows)  // what comes after this
        for (std::int64_t i = 0; i < share; i += 64 / static_cast<std::int64_t>(sizeof(float)))
          __builtin_prefetch(state_rows + (j * plan.steps / (NV * kLanes) + m0) / kProductRows * share + i, 0, 2);
      vf acc[kProductRows][NV];
      clear_tile(acc);
      if (columns) {
        multiply<Cells>(acc, b_rows + m0 * plan.state_cells, plan.state_cells, columns + j, plan.heads,
                        plan.state_cells);
#pragma GCC unroll 16
        for (int r = 0; r < kProductRows; ++r) {
          vf dot = j > 0 ? load(dots.write + (m0 + r) * kLanes) : zero();
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v)
            dot += acc[r][v] * Cells::get_row(at.x_rows + (m0 + r) * plan.head_cells, j + v * kLanes);
          store(dots.write + (m0 + r) * kLanes, dot);
        }
        scale_tile_rows(acc, d.weight + m0);
      }
      const std::int64_t k0 = cells<Cells>(m0);
      multiply<Cells>(acc, at.scores + m0 * plan.step_cells + k0, plan.step_cells, at.dy_columns + k0 * plan.heads + j,
                      plan.heads, plan.step_cells - k0);
      if (p.D) {
#pragma GCC unroll 16
        for (int r = 0; r < kProductRows; ++r)
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v)
            acc[r][v] += skip[v] * Cells::get_row(at.dy_rows + (m0 + r) * plan.head_cells, j + v * kLanes);
      }
      if (rows == kProductRows && j + NV * kLanes <= p.head_dim) {
        store_rows(out + m0 * where.stride, where.stride, acc);
        continue;
      }
      alignas(64) float tile[kProductRows][NV * kLanes];
      store_tile(acc, &tile[0][0], NV * kLanes);
      for (std::int64_t r = 0; r < rows; ++r)
        write_row(out + (m0 + r) * where.stride, &tile[r][0], min64(NV * kLanes, p.head_dim - j));
    }
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
    for (std::int64_t n = 0; n < plan.state; n += kProductRows) {
      float* out = dct + n * plan.steps + j;
      vf acc[kProductRows][NV];
      clear_tile(acc);
      multiply<Cells>(acc, state_rows + n * plan.head_cells, plan.head_cells, at.dyt + j, plan.steps, plan.head_cells);
#pragma GCC unroll 16
      for (int r = 0; r < kProductRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v)
          total[v] += acc[r][v] * Cells::get_row(ct_rows + (n + r) * plan.step_cells, j + v * kLanes);
      add_scaled(out, first, acc, scale);
    }
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) store(from_state + j + v * kLanes, total[v] * scale[v]);
  }

  // Rows of `out`, plan.steps apart, += acc o scale; they become that when `first`.
  template <int NV>
  MAMBASDK_ALWAYS_INLINE void add_scaled(float* out, bool first, const vf (&acc)[kProductRows][NV],
                                         const vf (&scale)[NV]) const {
    const float* old = first ? kNothing : out;
    const std::int64_t apart = first ? 0 : plan.steps;
#pragma GCC unroll 16
    for (int r = 0; r < kProductRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v)
        store(out + r * plan.steps + v * kLanes, acc[r][v] * scale[v] + load(old + r * apart + v * kLanes));
  }

  // dB^T (state,steps), columns [j, j + NV vectors), += weight o (dS X^T); it becomes that when `first`.
  template <int NV>
  __attribute__((noinline)) void writes(float* dbt, bool first, const float* grad_rows, const Decay& d,
                                        std::int64_t j) const {
    vf scale[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) scale[v] = load(d.weight + j + v * kLanes);
    for (std::int64_t n = 0; n < plan.state; n += kProductRows) {
      vf acc[kProductRows][NV];
      clear_tile(acc);
      multiply<Cells>(acc, grad_rows + n * plan.head_cells, plan.head_cells, at.xt + j, plan.steps, plan.head_cells);
      add_scaled(dbt + n * plan.steps + j, first, acc, scale);
    }
  }

  // The sum of the state before the chunk o the gradient of the state after it, from their rows operands.
  __attribute__((noinline)) float through_sum(const float* state_rows, const float* grad_rows) const {
    vf sum[4] = {};
    static_assert(kChunk % 4 == 0);
    const std::int64_t size = plan.state * plan.head_cells;  // rows are a multiple of kLanes, at least four
    for (std::int64_t i = 0; i < size; i += 4 * kLanes)
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) Cells::dot(sum[v], state_rows + i + v * kLanes, grad_rows + i + v * kLanes);
    return reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
  }

  // Head h, steps from `begin` on. `shared`: the group's operands of the chunk; `part`: the task's sums over its heads;
  // state_rows: the state before the chunk, null where that is zero; grad: the gradient of the state after it, zero
  // when not `has_grad`, which becomes that of the state before it.
  void run(std::int64_t h, std::int64_t begin, const float* shared, float* part, const float* state_rows,
           const StateGradient& grad, bool has_grad, Decay& d, HeadSums& sums) const {
    const std::int64_t count = min64(kChunk, sequence.length - begin);
    const bool first = h == head0;
    alignas(64) float column_sum[kChunk] = {}, direct[kChunk] = {}, from_state[kChunk] = {}, to_state[kChunk] = {};
    Dots dots;
    if (plan.heads == 0)  // no stripe of x will
      for (std::int64_t m = 0; m < kChunk; ++m) store(dots.write + m * kLanes, zero());
    make_decay<T>(d, p, sequence, h, begin, count);
    read_rows<T, Cells>(at.x_rows, plan.head_cells, p, sequence, p.x, h, begin, count, plan.steps, p.head_dim);
    read_grad_y(h, begin, count);
    float through = 0.0f;
    if (has_grad && state_rows) through = through_sum(state_rows, grad.rows);
    if (__builtin_expect(!is_finite(d, shared, state_rows, has_grad ? grad.rows : nullptr, through), 0))
      return recur(h, begin, count, part, state_rows, grad, d, sums);
    through *= d.through;
    make_operands(d);
    for (std::int64_t m = 0; m < kChunk; m += kLanes) {
      store(dots.row + m, zero());
      store(dots.own + m, zero());
      store(dots.skip + m, zero());
    }
    if (d.bounded) {
      all_pairs<true>(shared + plan.cbt, d, part + plan.dcbt, first, dots);
    } else {
      all_pairs<false>(shared + plan.cbt, d, part + plan.dcbt, first, dots);
    }
    for_stripes(plan.heads, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      inputs<decltype(width)::value>(h, begin, count, shared + plan.b_rows, has_grad ? grad.columns : nullptr,
                                     state_rows, d, j, dots);
    });
    sums_of_steps(count, d, has_grad, dots, column_sum, direct, to_state);
    if (p.D) skip_sums(h, dots);
    for_stripes(plan.steps, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      if (state_rows)
        reads<decltype(width)::value>(part + plan.dct, first, state_rows, shared + plan.ct_rows, d, j, from_state);
    });
    if (!state_rows && first) clear(part + plan.dct, plan.outer);
    for_stripes(plan.steps, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      if (has_grad) writes<decltype(width)::value>(part + plan.dbt, first, grad.rows, d, j);
    });
    if (!has_grad && first) clear(part + plan.dbt, plan.outer);
    if (begin > 0 || p.initial_state.data) {
      for_stripes(plan.heads, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
        carry_gradient<decltype(width)::value>(plan, grad, d.through, shared + plan.ct_rows, at.dye_columns, j);
      });
    }
    grad_dt(h, begin, count, d, dots.row, column_sum, direct, from_state, to_state, static_cast<double>(through), sums);
  }

  // Whether every operand of the products is finite; of x, dY, B and C also that sums of products of two of them are.
  // `through`: the sum of the products of the state and its gradient where there are both.
  bool is_finite(const Decay& d, const float* shared, const float* state_rows, const float* grad_rows,
                 float through) const {
    const std::int64_t rows = plan.steps * plan.head_cells, state = plan.state * plan.head_cells;
    if (!d.finite || shared[plan.finite] == 0.0f || through - through != 0.0f) return false;
    if (state_rows && !grad_rows && !is_finite_dot<Cells>(state_rows, state_rows, state)) return false;
    if (grad_rows && !state_rows && !is_finite_dot<Cells>(grad_rows, grad_rows, state)) return false;
    return is_finite_dot<Cells>(at.x_rows, at.x_rows, rows) && is_finite_dot<Cells>(at.dy_rows, at.dy_rows, rows);
  }

  // Per step m: dM o M over later steps; x . dU; weight o x . (B dS).
  void sums_of_steps(std::int64_t count, const Decay& d, bool has_grad, Dots& dots, float* column_sum, float* direct,
                     float* to_state) const {
    lane_sums(column_sum, dots.column, plan.steps);
    if (has_grad) {
      for (std::int64_t m = round_up(count, kProductRows); m < plan.steps; ++m) store(dots.write + m * kLanes, zero());
      lane_sums(to_state, dots.write, plan.steps);
    }
    for (std::int64_t m = 0; m < plan.steps; m += kLanes) {
      const vf column = load(column_sum + m), write = load(to_state + m);
      store(direct + m, column + load(dots.own + m) + load(d.to_end + m) * write);
      store(column_sum + m, column * load(d.source + m));
      store(to_state + m, load(d.weight + m) * write);
    }
  }

  void skip_sums(std::int64_t h, const Dots& dots) const {
    float* out = partials.D + (s * p.heads + h) * plan.heads;
    if (p.skip_width != 1) return skip_gradient(out);
    vf sum = zero();
    for (std::int64_t m = 0; m < plan.steps; m += kLanes) sum += load(dots.skip + m);
    out[0] += reduce_add(sum);
  }

  // The decay of step t acts on every pair (l,m) with m < t <= l, on the reads of the old state from t on, on the
  // contributions to the new state from before t, and on the state that passes through.
  void grad_dt(std::int64_t h, std::int64_t begin, std::int64_t count, const Decay& d, const float* row_sum,
               const float* column_sum, const float* direct, const float* from_state, const float* to_state,
               double through, HeadSums& sums) const {
    double reads[kChunk + 1], log_decay[kChunk], of_source[kChunk];
    reads[count] = 0.0;
    for (std::int64_t t = count - 1; t >= 0; --t) reads[t] = reads[t + 1] + static_cast<double>(from_state[t]);
    double crossing = 0.0, writes = 0.0;
    for (std::int64_t t = 0; t < count; ++t) {
      log_decay[t] = crossing + reads[t] + writes + through;
      of_source[t] = static_cast<double>(direct[t]);
      crossing += static_cast<double>(column_sum[t]) - static_cast<double>(row_sum[t]);
      writes += static_cast<double>(to_state[t]);
    }
    put_grad_dt(h, begin, count, d, log_decay, of_source, sums);
  }
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
