// The derivative of one head in one chunk. For *.isa.cpp only.
//
// With l, m steps of the chunk, m <= l, and scores M = CB^T o decay o source:
//   dM = dY X^T            dCB^T += dM o decay o source        (both transposed here: m rows, l along vectors)
//   dU = to_end o (B dS) + (CB^T o decay)^T dY                  dx = source o dU + D dY
//   dC^T += from_begin o (S^T dY^T),  dB^T += weight o (dS^T X^T),  then dC^T += B^T dCB^T, dB^T += C^T dCB
//   dS = through dS + C^T (from_begin o dY)
// States and their gradients are (N,P) here.
#pragma once

#include "ops/ssd/backward_plan.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// Sums over a head's chunks.
struct HeadSums {
  double A = 0.0, dt_bias = 0.0;
};

template <class T, class Cells>
struct ChunkDerivative {
  const Plan<Cells>& plan;
  const SsdBackward& call;
  const SsdProblem& p;
  const SsdSequence& sequence;
  std::int64_t s, head0, head1;  // the task's heads: [head0, head1)
  const Partials& partials;
  const Scratch& at;

  // grad_y of one chunk, through the gate; writes grad_z.
  void read_grad_y(std::int64_t h, std::int64_t begin, std::int64_t count) const {
    read_chunk<T>(at.dy, plan.heads, p, sequence, call.grad_y, h, begin, count, plan.steps, p.head_dim);
    if (!p.z.data) return;
    read_chunk<T>(at.operand, plan.heads, p, sequence, p.z, h, begin, count, plan.steps, p.head_dim);
    const std::int64_t stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
    const Steps where = steps(p, sequence, stride);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = where.offset + (begin + i) * where.stride + h * p.head_dim;
      for (std::int64_t j = 0; j < p.head_dim; j += kLanes) {
        const int n = static_cast<int>(min64(kLanes, p.head_dim - j));
        const vf z = load(at.operand + i * plan.heads + j), gate = sigmoid(z), grad = load(at.dy + i * plan.heads + j);
        const vf ungated = load_n(static_cast<const T*>(call.ungated) + row + j, n);
        store_n(static_cast<T*>(call.grad_z) + row + j, grad * ungated * gate * (1.0f + z * (1.0f - gate)), n);
        store(at.dy + i * plan.heads + j, grad * z * gate);
      }
    }
  }

  // Products over pairs of steps: at.scores^T, dCB^T, and the sums of dM o M over its strict rows and columns.
  void pairs(const float* cbt, const Decay& d, float* row_sum, float* column_sum) const {
    const float* x_rows = at.x;
    if constexpr (Cells::kPerCell != 1) x_rows = at.operand;
    for_stripes(plan.steps, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      constexpr int NV = decltype(width)::value;
      for (std::int64_t m0 = 0; m0 < min64(plan.steps, j + NV * kLanes); m0 += kTileRows) {
        vf acc[kTileRows][NV];
        clear_tile(acc);
        multiply<Cells>(acc, x_rows + m0 * plan.head_cells, plan.head_cells, at.dyt_columns + j, plan.steps,
                        plan.head_cells);
        alignas(64) float tile[kTileRows][NV * kLanes];
        store_tile(acc, &tile[0][0], NV * kLanes);
        vf row[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) row[v] = load(row_sum + j + v * kLanes);
        for (std::int64_t r = 0; r < kTileRows; ++r) {
          const std::int64_t m = m0 + r;
          const vi early = vi{} + static_cast<std::int32_t>(m);
          const vf source = set1(d.source[m]);
          vf column = zero();
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) {
            const std::int64_t l = j + v * kLanes, late_block = l / kDecayBlock;
            const vi late = lane_index(l);
            vf decay;
            if (d.factored && m0 < late_block * kDecayBlock) {
              decay = load(d.late + l) * set1(d.early[late_block][m]);
            } else {
              decay = decay_between(load(d.s + l), load(d.s_low + l), set1(d.s[m]), set1(d.s_low[m]),
                                    (early <= late) & (early >= load_int(d.first + l)));
            }
            const vf cb = load(cbt + m * plan.steps + l);
            const vf dm = load(&tile[r][v * kLanes]) * decay * source;
            Cells::put_row(at.scores + m * plan.step_cells, l, cb * decay);
            store(at.dcbt + m * plan.steps + l, load(at.dcbt + m * plan.steps + l) + dm);
            const vf both = select(early != late, dm * cb, zero());
            row[v] += both;
            column += both;
          }
          column_sum[m] += reduce_add(column);
        }
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) store(row_sum + j + v * kLanes, row[v]);
      }
    });
  }

  // grad_x of one chunk; direct[m] += x_m . dU_m
  void inputs(std::int64_t h, std::int64_t begin, std::int64_t count, const float* b_rows, const float* columns,
              const Decay& d, float* direct) const {
    const std::int64_t stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
    const Steps where = steps(p, sequence, stride);
    // The head and the step where the task goes next.
    const std::int64_t h1 = h + 1 < head1 ? h + 1 : head0, next = h1 > h ? begin : begin - kChunk;
    for_stripes(plan.heads, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      constexpr int NV = decltype(width)::value;
      for (std::int64_t m0 = 0; m0 < count; m0 += kTileRows) {
        if (next >= 0) {
          prefetch_steps<T>(p, sequence, p.x, h1, next + m0, kTileRows, j, NV * kLanes);
          prefetch_steps<T>(p, sequence, call.grad_y, h1, next + m0, kTileRows, j, NV * kLanes);
        }
        vf acc[kTileRows][NV];
        clear_tile(acc);
        multiply<Cells>(acc, b_rows + m0 * plan.state_cells, plan.state_cells, columns + j, plan.heads,
                        plan.state_cells);
        scale_tile_rows(acc, d.to_end + m0);
        const std::int64_t k0 = cells<Cells>(m0);
        multiply<Cells>(acc, at.scores + m0 * plan.step_cells + k0, plan.step_cells,
                        at.dy_columns + k0 * plan.heads + j, plan.heads, plan.step_cells - k0);
        alignas(64) float tile[kTileRows][NV * kLanes];
        store_tile(acc, &tile[0][0], NV * kLanes);
        for (std::int64_t r = 0; r < min64(kTileRows, count - m0); ++r) {
          const std::int64_t m = m0 + r;
          T* out = static_cast<T*>(call.grad_x) + where.offset + (begin + m) * where.stride + h * p.head_dim;
          vf dot = zero();
          for (int v = 0; v < NV; ++v) {
            const std::int64_t column = j + v * kLanes;
            const int n = static_cast<int>(min64(kLanes, p.head_dim - column));
            if (n <= 0) break;
            const vf du = load(&tile[r][v * kLanes]);
            dot += du * load(at.x + m * plan.heads + column);
            vf dx = du * set1(d.source[m]);
            if (p.D) {
              const vf skip = p.skip_width == 1 ? set1(p.D[h]) : load_n(p.D + h * p.head_dim + column, n);
              dx += skip * load(at.dy + m * plan.heads + column);
            }
            store_n(out + column, dx, n);
          }
          direct[m] += reduce_add(dot);
        }
      }
    });
  }

  // out^T (state,steps) += t, where t = scale o (a columns); sum[l] += other[n,l] t[n,l] over n
  void outer(float* out, const float* a, const float* columns, const float* scale, const float* other,
             float* sum) const {
    for (std::int64_t n = 0; n < plan.state; n += kTileRows) {
      for_stripes(plan.steps, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
        constexpr int NV = decltype(width)::value;
        vf acc[kTileRows][NV], total[NV];
        clear_tile(acc);
        multiply<Cells>(acc, a + n * plan.head_cells, plan.head_cells, columns + j, plan.steps, plan.head_cells);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) total[v] = load(sum + j + v * kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) {
            const std::int64_t i = (n + r) * plan.steps + j + v * kLanes;
            const vf t = acc[r][v] * load(scale + j + v * kLanes);
            total[v] += t * load(other + i);
            store(out + i, load(out + i) + t);
          }
        }
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) store(sum + j + v * kLanes, total[v]);
      });
    }
  }

  // Sum of the products of a state's gradient and the state kept before the chunk.
  float through_product(const float* grad, const float* state_rows) const {
    vf sum = zero();
    for (std::int64_t i = 0; i < plan.carry; i += kLanes) {
      if constexpr (Cells::kPerCell == 1)
        sum += load(grad + i) * load(state_rows + i);
      else
        sum += load(grad + i) * load(reinterpret_cast<const bf16*>(state_rows) + i);
    }
    return reduce_add(sum);
  }

  // Head h, steps from `begin` on. `shared`: the group's operands of the chunk; state_rows: the state before the chunk;
  // grad: the gradient of the state after it, which becomes that of the state before it.
  void run(std::int64_t h, std::int64_t begin, const float* shared, const float* state_rows, float* grad, Decay& d,
           HeadSums& sums) const {
    const std::int64_t count = min64(kChunk, sequence.length - begin);
    alignas(64) float row_sum[kChunk] = {}, column_sum[kChunk] = {}, direct[kChunk] = {};
    alignas(64) float from_state[kChunk] = {}, to_state[kChunk] = {};
    make_decay<T>(d, p, sequence, h, begin, count);
    read_chunk<T>(at.x, plan.heads, p, sequence, p.x, h, begin, count, plan.steps, p.head_dim);
    read_grad_y(h, begin, count);
    const float* grad_rows = grad;
    const float* grad_columns = grad;
    if constexpr (Cells::kPerCell == 1) {
      transpose(at.xt_columns, plan.steps, at.x, plan.heads, plan.steps, plan.heads);
      transpose(at.dyt_columns, plan.steps, at.dy, plan.heads, plan.steps, plan.heads);
    } else {
      to_rows<Cells>(at.operand, plan.head_cells, at.dy, plan.heads, plan.steps, plan.heads);
      transpose(at.dyt_columns, plan.steps, at.operand, plan.head_cells, plan.steps, plan.head_cells);
      to_rows<Cells>(at.operand, plan.head_cells, at.x, plan.heads, plan.steps, plan.heads);
      transpose(at.xt_columns, plan.steps, at.operand, plan.head_cells, plan.steps, plan.head_cells);
      to_rows<Cells>(at.dstate_rows, plan.head_cells, grad, plan.heads, plan.state, plan.heads);
      to_columns<Cells>(at.dstate_columns, plan.heads, grad, plan.heads, plan.state, plan.heads);
      grad_rows = at.dstate_rows;
      grad_columns = at.dstate_columns;
    }
    to_columns<Cells>(at.dy_columns, plan.heads, at.dy, plan.heads, plan.steps, plan.heads);
    to_columns<Cells>(at.dye_columns, plan.heads, at.dy, plan.heads, plan.steps, plan.heads, d.from_begin);
    pairs(shared + plan.cbt, d, row_sum, column_sum);
    inputs(h, begin, count, shared + plan.b_rows, grad_columns, d, direct);
    outer(at.dct, state_rows, at.dyt_columns, d.from_begin, shared + plan.ct, from_state);
    outer(at.dbt, grad_rows, at.xt_columns, d.weight, shared + plan.bt, to_state);
    const double through = d.through == 0.0f ? 0.0 : static_cast<double>(d.through * through_product(grad, state_rows));
    carry_over(plan, grad, grad, d.through, shared + plan.ct_rows, at.dye_columns);
    if (p.D) {
      float* out = partials.D + (s * p.heads + h) * plan.heads;
      for (std::int64_t j = 0; j < plan.heads; j += kLanes) {
        vf sum = load(out + j);
        for (std::int64_t i = 0; i < count; ++i)
          sum += load(at.x + i * plan.heads + j) * load(at.dy + i * plan.heads + j);
        store(out + j, sum);
      }
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
