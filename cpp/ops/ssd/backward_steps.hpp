// The derivative of one head in one chunk step by step, for where a value is not finite, and what it has in common with
// the way by matrix products (backward_chunk.hpp): the gradient of y through the gate, and the gradient of dt. For
// *.isa.cpp only.
#pragma once

#include "ops/ssd/backward_plan.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// Sums over a head's chunks.
struct HeadSums {
  double A = 0.0, dt_bias = 0.0;
};

template <class T, class Cells>
struct HeadDerivative {
  const Plan<Cells>& plan;
  const SsdBackward& call;
  const SsdProblem& p;
  const SsdSequence& sequence;
  std::int64_t s, head0, head1;  // the task's heads: [head0, head1)
  const Partials& partials;
  const Scratch& at;

  // grad_y of one chunk, through the gate; writes grad_z.
  void read_grad_y(std::int64_t h, std::int64_t begin, std::int64_t count) const {
    if (!p.z.data)
      return read_rows<T, Cells>(at.dy_rows, plan.head_cells, p, sequence, call.grad_y, h, begin, count, plan.steps,
                                 p.head_dim);
    if (p.wide_z) {
      read_gated<float>(h, begin, count);
    } else {
      read_gated<T>(h, begin, count);
    }
    to_rows<Cells>(at.dy_rows, plan.head_cells, at.grad_y, plan.heads, plan.steps, plan.heads);
  }
  // Z: of z and its gradient.
  template <class Z>
  void read_gated(std::int64_t h, std::int64_t begin, std::int64_t count) const {
    read_chunk<T>(at.grad_y, plan.heads, p, sequence, call.grad_y, h, begin, count, plan.steps, p.head_dim);
    read_chunk<Z>(at.gate, plan.heads, p, sequence, p.z, h, begin, count, plan.steps, p.head_dim);
    const std::int64_t stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
    const Steps where = steps(p, sequence, stride);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = where.offset + (begin + i) * where.stride + h * p.head_dim;
      for (std::int64_t j = 0; j < p.head_dim; j += kLanes) {
        const int n = static_cast<int>(min64(kLanes, p.head_dim - j));
        const vf z = load(at.gate + i * plan.heads + j), gate = sigmoid(z);
        const vf grad = load(at.grad_y + i * plan.heads + j);
        const vf ungated = load_n(static_cast<const Saved<T>*>(call.ungated) + row + j, n);
        store_n(static_cast<Z*>(call.grad_z) + row + j, grad * ungated * gate * (1.0f + z * (1.0f - gate)), n);
        store(at.grad_y + i * plan.heads + j, grad * z * gate);
      }
    }
  }

  // ChunkDerivative::run step by step, one state of N at a time: forward with the states kept, then back. d(CB^T) gets
  // nothing: dB and dC have all of it.
  __attribute__((noinline)) void recur(std::int64_t h, std::int64_t begin, std::int64_t count, float* part,
                                       const float* state_rows, const StateGradient& grad, const Decay& d,
                                       HeadSums& sums) const {
    const std::int64_t g = h / (p.heads / p.groups), ld = plan.heads;
    if (h == head0) clear(part, plan.part);
    float *x = at.weighted, *dy = at.grad_y, *history = at.xt, *du = at.dye_columns;  // history: (count+1,heads)
    read_chunk<T>(x, ld, p, sequence, p.x, h, begin, count, plan.steps, p.head_dim);
    if (!p.z.data) read_chunk<T>(dy, ld, p, sequence, call.grad_y, h, begin, count, plan.steps, p.head_dim);
    clear(du, plan.tile);
    StepDecay decay[kChunk];
    double log_decay[kChunk] = {}, direct[kChunk] = {};
    for (std::int64_t t = 0; t < count; ++t) decay[t] = step_decay(p, sequence, h, begin + t, d.dt[t]);
    for (std::int64_t n = 0; n < p.state; ++n) {
      float* w = grad.values + n * ld;
      for (std::int64_t j = 0; j < ld; j += kLanes)
        store(history + j, state_rows ? Cells::get_row(state_rows + n * plan.head_cells, j) : zero());
      for (std::int64_t t = 0; t < count; ++t) {
        const float b = element_at<T>(p, sequence, p.B, g, begin + t, n);
        for (std::int64_t j = 0; j < ld; j += kLanes)
          store(history + (t + 1) * ld + j,
                inside(p, j, decay[t](load(history + t * ld + j)) + load(x + t * ld + j) * d.source[t] * b));
      }
      for (std::int64_t t = count - 1; t >= 0; --t) {
        const float b = element_at<T>(p, sequence, p.B, g, begin + t, n);
        const float c = element_at<T>(p, sequence, p.C, g, begin + t, n);
        vf sum_b = zero(), sum_c = zero(), through = zero();
        for (std::int64_t j = 0; j < ld; j += kLanes) {
          const vf gy = load(dy + t * ld + j), before = load(history + t * ld + j);
          const vf dh = inside(p, j, load(w + j) + gy * c), kept = inside(p, j, decay[t](dh));
          sum_c += gy * load(history + (t + 1) * ld + j);
          sum_b += dh * load(x + t * ld + j);
          store(du + t * ld + j, inside(p, j, load(du + t * ld + j) + dh * b));
          if (decay[t].keeps) through += kept * before;
          store(w + j, kept);
        }
        part[plan.dct + n * plan.steps + t] += reduce_add(sum_c);
        part[plan.dbt + n * plan.steps + t] += reduce_add(sum_b) * d.source[t];
        log_decay[t] += static_cast<double>(reduce_add(through));
      }
    }
    const std::int64_t stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
    const Steps where = steps(p, sequence, stride);
    float* skip = partials.D + (s * p.heads + h) * plan.heads;
    for (std::int64_t t = 0; t < count; ++t) {
      T* out = static_cast<T*>(call.grad_x) + where.offset + (begin + t) * where.stride + h * p.head_dim;
      vf dot = zero(), skipped = zero();
      for (std::int64_t j = 0; j < ld; j += kLanes) {
        const int n = static_cast<int>(min64(kLanes, p.head_dim - j));
        const vf gy = load(dy + t * ld + j), xs = load(x + t * ld + j), gu = load(du + t * ld + j);
        dot += gu * xs;
        if (n <= 0) continue;
        vf gx = gu * d.source[t];
        if (p.D) gx += gy * (p.skip_width == 1 ? set1(p.D[h]) : load_n(p.D + h * p.head_dim + j, n));
        store_n(out + j, gx, n);
        if (p.D && p.skip_width != 1) store(skip + j, load(skip + j) + gy * xs);
        skipped += gy * xs;
      }
      if (p.D && p.skip_width == 1) skip[0] += reduce_add(skipped);
      direct[t] = static_cast<double>(reduce_add(dot));
    }
    if constexpr (Cells::kPerCell != 1) {
      to_rows<Cells>(grad.rows, plan.head_cells, grad.values, plan.heads, plan.state, plan.heads);
      to_columns<Cells>(grad.columns, plan.heads, grad.values, plan.heads, plan.state, plan.heads);
    }
    put_grad_dt(h, begin, count, d, log_decay, direct, sums);
  }

  // From the gradients of the logarithm of each step's decay and of its dt as the factor of x.
  __attribute__((noinline)) void put_grad_dt(std::int64_t h, std::int64_t begin, std::int64_t count, const Decay& d,
                                             const double* log_decay, const double* direct, HeadSums& sums) const {
    alignas(64) float raw[kChunk], slope[kChunk];
    read_dt<T>(raw, p, sequence, h, begin, count);
    for (std::int64_t i = 0; i < kChunk; i += kLanes) {
      const vf v = load(raw + i), dt = p.dt_softplus ? softplus(v) : v;
      const vf rate = p.dt_softplus ? sigmoid(v) : set1(1.0f);  // above 20 it is 1 too
      store(slope + i, select((dt < set1(p.dt_min)) | (dt > set1(p.dt_max)), zero(), rate));
    }
    const std::int64_t stride[3] = {p.length * p.heads, p.heads, 1};
    const Steps where = steps(p, sequence, stride);
    const std::int64_t offset = where.offset + begin * where.stride + h;
    for (std::int64_t t = 0; t < count; ++t) {
      // A decay of 0 has no slope, even where A or dt is infinite.
      const double by_decay = log_decay[t] == 0.0 ? 0.0 : log_decay[t] * static_cast<double>(p.A[h]);
      const double grad_raw = (by_decay + (p.dt_on_x ? direct[t] : 0.0)) * static_cast<double>(slope[t]);
      const auto value = static_cast<float>(grad_raw);
      if (p.wide_dt) {
        static_cast<float*>(call.grad_dt)[offset + t * where.stride] = value;
      } else {
        static_cast<T*>(call.grad_dt)[offset + t * where.stride] = from_float<T>::cast(value);
      }
      sums.dt_bias += grad_raw;
      if (log_decay[t] != 0.0) sums.A += log_decay[t] * static_cast<double>(d.dt[t]);
    }
  }
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
