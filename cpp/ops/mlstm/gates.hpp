// The gates of one chunk of mlstm as weights of its steps. For *.isa.cpp only.
//
// Within a chunk, with F_t the sum of log-sigmoids of the forget gates so far, step s counts at step t with the weight
// exp(F_t - F_s + i_s - m_t) = exp(g_s - r_t), where g_s = i_s - F_s and r_t = m_t - F_t, the largest of m before the
// chunk and of g so far: every weight is at most 1. g and r are kept as two floats each, so that a difference is as
// exact as its operands allow however long the chunk and strong the gates.
#pragma once

#include "ops/mlstm/chunk.hpp"

namespace mambasdk::MAMBASDK_ISA {

// Arrays of a chunk's steps, one behind the other in scratch memory.
struct Gates {
  static constexpr Index kArrays = 12;
  float *g, *g_low, *r, *r_low;
  float* from_begin;  // weight of the state before the chunk at each step
  float* to_end;      // weight of each step in the state after the chunk
  float* least;       // exp(-m): what the normaliser is at least
  float* input;       // the input gate
  float* decay;       // log sigmoid of the forget gate
  float* slope;       // its derivative
  float* normaliser;  // n q
  float* kept;        // 1 where m is the decayed one, 0 where it is the input gate
  float through;      // weight of the state before the chunk in the one after
  double m;           // before the chunk, then after it
  bool finite;        // the weights are

  Gates(float* memory, Index steps) {
    float** arrays[kArrays] = {&g,     &g_low, &r,     &r_low, &from_begin, &to_end,
                               &least, &input, &decay, &slope, &normaliser, &kept};
    for (float** array : arrays) {
      *array = memory;
      memory += steps;
    }
    through = 0.0f;
    m = 0.0;
    finite = true;
  }
};

// A double as two floats; infinities and NaN as one.
MAMBASDK_SIMD void split(double x, float* high, float* low) {
  *high = static_cast<float>(x);
  const double rest = x - static_cast<double>(*high);
  *low = rest - rest == 0.0 ? static_cast<float>(rest) : 0.0f;
}

MAMBASDK_SIMD vf weight(vf g, vf g_low, vf r, vf r_low) {
  return exp((g - r) + (g_low - r_low));
}

template <class G>
MAMBASDK_SIMD void read_gate(float* out, const StridedView& view, const Sequence& sequence, Index head, Index begin,
                             Index count) {
  const G* from = static_cast<const G*>(view.data) + place(view, sequence, head, begin);
  for (Index i = 0; i < count; ++i) out[i] = to_float(from[i * view.stride[1]]);
}

MAMBASDK_SIMD void read_gates(float* out, const Problem& p, const StridedView& view, const Sequence& sequence,
                              Index head, Index begin, Index count) {
  with_type(p.gate_type, [&]<class G>(G) { read_gate<G>(out, view, sequence, head, begin, count); });
}

// Steps [begin, begin + count); gates.m is that before, and becomes that after. The sums do not come back from a gate
// that is not finite, but for an input gate of minus infinity, a step of no weight: where `finite` is not set, nothing
// but the gates themselves is of use, and make_step_gates has the weights.
__attribute__((noinline)) inline void make_gates(Gates& gates, const Problem& p, const Dims& d,
                                                 const Sequence& sequence, Index head, Index begin, Index count) {
  for (Index i = 0; i < d.steps; i += kLanes) store(gates.decay + i, zero());
  read_gates(gates.decay, p, p.fgate, sequence, head, begin, count);
  read_gates(gates.input, p, p.igate, sequence, head, begin, count);
  for (Index i = 0; i < d.steps; i += kLanes) {
    const vf forget = load(gates.decay + i);
    store(gates.slope + i, sigmoid(zero() - forget));
    store(gates.decay + i, zero() - softplus(zero() - forget));
  }
  const double before = gates.m;
  double sum = 0.0, most = before;
  for (Index i = 0; i < count; ++i) {
    sum += static_cast<double>(gates.decay[i]);
    const double g = static_cast<double>(gates.input[i]) - sum;
    gates.kept[i] = most >= g ? 1.0f : 0.0f;
    most = most >= g ? most : g;
    split(g, gates.g + i, gates.g_low + i);
    split(most, gates.r + i, gates.r_low + i);
    gates.least[i] = static_cast<float>(-(most + sum));
  }
  for (Index i = count; i < d.steps; ++i) {  // no steps: of no weight, and they read nothing
    gates.g[i] = -__builtin_inff();
    gates.g_low[i] = gates.kept[i] = gates.least[i] = 0.0f;
    split(most, gates.r + i, gates.r_low + i);
  }
  float m = 0.0f, m_low = 0.0f, end = 0.0f, end_low = 0.0f;
  split(before, &m, &m_low);
  split(most, &end, &end_low);
  for (Index i = 0; i < d.steps; i += kLanes) {
    store(gates.from_begin + i, weight(set1(m), set1(m_low), load(gates.r + i), load(gates.r_low + i)));
    store(gates.to_end + i, weight(load(gates.g + i), load(gates.g_low + i), set1(end), set1(end_low)));
    store(gates.least + i, exp(load(gates.least + i)));
  }
  gates.through = weight(set1(m), set1(m_low), set1(end), set1(end_low))[0];
  gates.m = most + sum;
  gates.finite = is_finite(gates.to_end, d.steps) && gates.through - gates.through == 0.0f;
}

// After make_gates, the same for chunks of one step each: from_begin is the weight of the state before a step in the
// one after it, to_end that of the step itself. `before`: m before the first of them.
__attribute__((noinline)) inline void make_step_gates(Gates& gates, const Dims& d, double before, Index count) {
  gates.m = before;
  for (Index i = 0; i < d.steps; i += kLanes) {
    for (float* weights : {gates.from_begin, gates.to_end, gates.least}) store(weights + i, zero());
  }
  for (Index i = 0; i < count; ++i) {
    const double decayed = gates.m + static_cast<double>(gates.decay[i]), input = static_cast<double>(gates.input[i]);
    const bool kept = decayed >= input;
    gates.m = kept ? decayed : input;
    gates.kept[i] = kept ? 1.0f : 0.0f;
    gates.from_begin[i] = static_cast<float>(decayed - gates.m);
    gates.to_end[i] = static_cast<float>(input - gates.m);
    gates.least[i] = static_cast<float>(-gates.m);
  }
  for (Index i = 0; i < d.steps; i += kLanes) {
    for (float* weights : {gates.from_begin, gates.to_end, gates.least}) store(weights + i, exp(load(weights + i)));
  }
}

// The weights of steps [s, s + kLanes) at step t; 0 for those after it.
MAMBASDK_SIMD vf weights_at(const Gates& gates, Index t, Index s) {
  vi early;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) early[i] = static_cast<std::int32_t>(s) + i;
  const vf w = weight(load(gates.g + s), load(gates.g_low + s), set1(gates.r[t]), set1(gates.r_low[t]));
  return select(early <= static_cast<std::int32_t>(t), w, zero());
}
}  // namespace mambasdk::MAMBASDK_ISA
