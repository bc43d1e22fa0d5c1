// One chunk of mlstm as the forward and the derivative see it: gates, rows of the inputs, triangular products. For
// *.isa.cpp only.
//
// Within a chunk, with F_t the sum of log-sigmoids of the forget gates so far, step s counts at step t with the weight
// exp(F_t - F_s + i_s - m_t) = exp(g_s - r_t), where g_s = i_s - F_s and r_t = m_t - F_t, the largest of m before the
// chunk and of g so far: every weight is at most 1. g and r are kept as two floats each, so that a difference is as
// exact as its operands allow however long the chunk and strong the gates.
//
// The normaliser n is one more column of the state, as if v had a 1 at its end: matrices of values are E+1 wide.
#pragma once

#include "core/simd_types.hpp"
#include "kernels/flush_denormals.hpp"
#include "ops/mlstm/mlstm_args.hpp"
#include "ops/ssd/operands.hpp"

namespace mambasdk::MAMBASDK_ISA {

using Index = std::int64_t;
using mlstm::Problem;
using mlstm::Sequence;

inline constexpr Index kSlots = 32;  // ranges of heads with scratch memory of their own

// Padded sizes.
struct Dims {
  Index steps, keys, values;  // of a chunk; E; E+1

  explicit Dims(const Problem& p)
      : steps(round_up(max64(1, min64(p.chunk, p.max_length)), kLanes)),
        keys(round_up(p.head_dim, kLanes)),
        values(round_up(p.head_dim + 1, kLanes)) {}
};

MAMBASDK_SIMD Index chunk_steps(const Problem& p) {
  return max64(1, min64(p.chunk, p.max_length));
}
MAMBASDK_SIMD Index slot_count(const Problem& p) {
  return min64(p.sequence_count * p.heads, kSlots);
}

// Arrays of a chunk's steps, one behind the other in scratch memory.
struct Gates {
  static constexpr Index kArrays = 10;
  float *g, *g_low, *r, *r_low;
  float* from_begin;  // weight of the state before the chunk at each step
  float* to_end;      // weight of each step in the state after the chunk
  float* least;       // exp(-m): what the normaliser is at least
  float* decay;       // log sigmoid of the forget gate
  float* slope;       // its derivative
  float* kept;        // 1 where m is the decayed one, 0 where it is the input gate
  float through;      // weight of the state before the chunk in the one after
  double m;           // before the chunk, then after it

  Gates(float* memory, Index steps) {
    float** arrays[kArrays] = {&g, &g_low, &r, &r_low, &from_begin, &to_end, &least, &decay, &slope, &kept};
    for (float** array : arrays) {
      *array = memory;
      memory += steps;
    }
    through = 0.0f;
    m = 0.0;
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

// Where step `t` of a sequence is in an input.
MAMBASDK_SIMD Index place(const StridedView& view, const Sequence& sequence, Index head, Index t) {
  return sequence.batch * view.stride[0] + (sequence.begin + t) * view.stride[1] + head * view.stride[2];
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

// Steps [begin, begin + count); gates.m is that before, and becomes that after.
__attribute__((noinline)) inline void make_gates(Gates& gates, const Problem& p, const Dims& d,
                                                 const Sequence& sequence, Index head, Index begin, Index count) {
  for (Index i = 0; i < d.steps; i += kLanes) store(gates.decay + i, zero());
  read_gates(gates.decay, p, p.fgate, sequence, head, begin, count);
  read_gates(gates.g, p, p.igate, sequence, head, begin, count);
  for (Index i = 0; i < d.steps; i += kLanes) {
    const vf forget = load(gates.decay + i);
    store(gates.slope + i, sigmoid(zero() - forget));
    store(gates.decay + i, zero() - softplus(zero() - forget));
  }
  const double before = gates.m;
  double sum = 0.0, most = before;
  for (Index i = 0; i < count; ++i) {
    sum += static_cast<double>(gates.decay[i]);
    const double g = static_cast<double>(gates.g[i]) - sum;
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
}

// Rows of one chunk of an input, for one head, times `scale`: (steps, width), zeros beyond. The column behind the last
// becomes `last` where the step is there.
template <class T>
__attribute__((noinline)) void read_rows(float* out, Index width, Index steps, const Problem& p,
                                         const StridedView& view, const Sequence& sequence, Index head, Index begin,
                                         Index count, float scale, float last) {
  for (Index i = 0; i < count; ++i) {
    const T* from = static_cast<const T*>(view.data) + place(view, sequence, head, begin + i);
    read_row(out + i * width, from, view.stride[3], p.head_dim, width);
    if (scale != 1.0f)
      for (Index j = 0; j < width; j += kLanes) store(out + i * width + j, load(out + i * width + j) * scale);
    if (last != 0.0f) out[i * width + p.head_dim] = last;
  }
  for (Index i = count * width; i < steps * width; i += kLanes) store(out + i, zero());
}

MAMBASDK_SIMD float key_scale(const Problem& p) {
  return p.head_dim > 0 ? 1.0f / sqrt(set1(static_cast<float>(p.head_dim)))[0] : 1.0f;
}

// c (steps,columns) = or += a b, of a lower triangle a (steps,steps): row t takes cells up to t.
__attribute__((noinline)) inline void lower_product(float* c, Index ldc, const float* a, Index lda, const float* b,
                                                    Index ldb, Index rows, Index columns, bool add) {
  for_stripes(columns, [&](Index j, auto width) __attribute__((always_inline)) {
    constexpr int NV = decltype(width)::value;
    for (Index r = 0; r < rows; r += kProductRows) {
      vf acc[kProductRows][NV];
      clear_tile(acc);
      if (add) load_tile(acc, c + r * ldc + j, ldc);
      multiply<FloatCells>(acc, a + r * lda, lda, b + j, ldb, r + kProductRows);
      store_tile(acc, c + r * ldc + j, ldc);
    }
  });
}
// c += a b, of an upper triangle a (steps,steps): row s takes cells from s to `count`.
__attribute__((noinline)) inline void add_upper_product(float* c, Index ldc, const float* a, Index lda, const float* b,
                                                        Index ldb, Index count, Index columns) {
  for_stripes(columns, [&](Index j, auto width) __attribute__((always_inline)) {
    constexpr int NV = decltype(width)::value;
    for (Index r = 0; r < count; r += kProductRows) {
      vf acc[kProductRows][NV];
      load_tile(acc, c + r * ldc + j, ldc);
      multiply<FloatCells>(acc, a + r * lda + r, lda, b + r * ldb + j, ldb, count - r);
      store_tile(acc, c + r * ldc + j, ldc);
    }
  });
}
// The lower triangle, and what of the tiles of columns lies above it, of a b: (steps, k) by (k, steps).
__attribute__((noinline)) inline void triangle(float* c, const float* a, Index lda, const float* b, Index steps,
                                               Index k) {
  for (Index j = 0; j < steps; j += kTriangleColumns)
    product<FloatCells>(c + j * steps + j, steps, a + j * lda, lda, b + j, steps, steps - j,
                        min64(kTriangleColumns, steps - j), k, false);
}

// Row r of (rows,columns) times scale[r].
MAMBASDK_SIMD void scale_rows(float* c, Index ld, Index rows, Index columns, const float* scale) {
  for (Index r = 0; r < rows; ++r)
    for (Index j = 0; j < columns; j += kLanes) store(c + r * ld + j, load(c + r * ld + j) * scale[r]);
}
// Column r of (rows,columns) times scale[r].
MAMBASDK_SIMD void scale_columns(float* c, Index ld, Index rows, Index columns, const float* scale) {
  for (Index r = 0; r < rows; ++r)
    for (Index j = 0; j < columns; j += kLanes) store(c + r * ld + j, load(c + r * ld + j) * load(scale + j));
}

// The weights of steps [s, s + kLanes) at step t; 0 for those after it.
MAMBASDK_SIMD vf weights_at(const Gates& gates, Index t, Index s) {
  vi early;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) early[i] = static_cast<std::int32_t>(s) + i;
  const vf w = weight(load(gates.g + s), load(gates.g_low + s), set1(gates.r[t]), set1(gates.r_low[t]));
  return select(early <= static_cast<std::int32_t>(t), w, zero());
}
// Scores times their weights; zero above the diagonal, as far as its vectors go.
__attribute__((noinline)) inline void weigh(float* scores, const Gates& gates, Index steps) {
  for (Index t = 0; t < steps; ++t)
    for (Index s = 0; s <= t; s += kLanes)
      store(scores + t * steps + s, load(scores + t * steps + s) * weights_at(gates, t, s));
}

// state (keys,values) = through state + keys_of_steps (keys,steps) values (steps,values).
__attribute__((noinline)) inline void carry(float* state, const Dims& d, float through, const float* keys_of_steps,
                                            const float* values, Index count) {
  for_stripes(d.values, [&](Index j, auto width) __attribute__((always_inline)) {
    constexpr int NV = decltype(width)::value;
    for (Index e = 0; e < d.keys; e += kProductRows) {
      vf acc[kProductRows][NV];
      clear_tile(acc);
      multiply<FloatCells>(acc, keys_of_steps + e * d.steps, d.steps, values + j, d.values, count);
      add_tile(acc, set1(through), state + e * d.values + j, d.values);
      store_tile(acc, state + e * d.values + j, d.values);
    }
  });
}

// ---- states: (S,H,E,E) of v by k, (S,H,E) and (S,H) outside; (keys,values) with n as a column inside ----

struct StateViews {
  const StridedView &C, &n, &m;
};

// Zeros where it is absent; m is then `none`.
__attribute__((noinline)) inline double read_state(float* state, const Dims& d, const Problem& p, StateViews views,
                                                   Index s, Index head, double none) {
  for (Index i = 0; i < d.keys * d.values; i += kLanes) store(state + i, zero());
  if (views.C.data != nullptr) {
    const float* C = static_cast<const float*>(views.C.data) + s * views.C.stride[0] + head * views.C.stride[1];
    for (Index e = 0; e < p.head_dim; ++e)
      for (Index j = 0; j < p.head_dim; ++j) state[j * d.values + e] = C[e * views.C.stride[2] + j * views.C.stride[3]];
  }
  if (views.n.data != nullptr) {
    const float* n = static_cast<const float*>(views.n.data) + s * views.n.stride[0] + head * views.n.stride[1];
    for (Index j = 0; j < p.head_dim; ++j) state[j * d.values + p.head_dim] = n[j * views.n.stride[2]];
  }
  if (views.m.data == nullptr) return none;
  const float* m = static_cast<const float*>(views.m.data);
  return static_cast<double>(m[s * views.m.stride[0] + head * views.m.stride[1]]);
}

__attribute__((noinline)) inline void write_state(const mlstm::State& out, const Dims& d, const Problem& p, Index s,
                                                  Index head, const float* state, double m) {
  const Index first = s * p.heads + head, width = p.head_dim;
  float* C = static_cast<float*>(out.C);
  float* n = static_cast<float*>(out.n);
  if (out.m != nullptr) static_cast<float*>(out.m)[first] = static_cast<float>(m);
  for (Index j = 0; j < width && n != nullptr; ++j) n[first * width + j] = state[j * d.values + width];
  for (Index e = 0; e < width && C != nullptr; ++e)
    for (Index j = 0; j < width; ++j) C[(first * width + e) * width + j] = state[j * d.values + e];
}

// f(sequence, head, slot) for every head of every sequence; a slot's scratch memory is one range's at a time.
template <class F>
MAMBASDK_SIMD void for_each_head(const Problem& p, const Parallel& parallel, F&& f) {
  const Index tasks = p.sequence_count * p.heads, slots = slot_count(p);
  parallel(slots, 1, [&](Index begin, Index end) {
    const FlushDenormals flush;
    for (Index slot = begin; slot < end; ++slot)
      for (Index task = slot; task < tasks; task += slots) f(task / p.heads, task % p.heads, slot);
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
