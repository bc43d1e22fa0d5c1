// rms_norm and layer_norm forward, vectorised, row by row: a row stays in the first-level cache while two or three
// short loops pass over it, each of which also asks for a row that the next one needs. Rows with a gate, of strided
// elements or of mixed 16-bit types are copied to float32 first.
#include "ops/norm/norm_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// y = (v - mean) rstd weight (+ bias); `ahead` is where the next row's y will be.
template <bool kMean, bool kBias, class V, class T>
MAMBASDK_SIMD void scale_row(const V* v, const float* weight, const float* bias, Statistics s, T* y, Index n,
                             const T* ahead) {
  const vf mean = set1(s.mean), rstd = set1(s.rstd);
  const auto scaled = [&](Index i, int count) __attribute__((always_inline)) {
    vf x = load_n(v + i, count);
    if constexpr (kMean) x = x - mean;
    x = x * rstd * load_n(weight + i, count);
    if constexpr (kBias) x = x + load_n(bias + i, count);
    return x;
  };
  Index i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    prefetch_vectors<2, kAheadLevel<T>>(ahead + i);
    store_pair(y + i, scaled(i, kLanes), scaled(i + kLanes, kLanes));
  }
  for (; i < n; i += kLanes) {
    const int count = lanes_left(i, n);
    store_n(y + i, scaled(i, count), count);
  }
}

// The same elements of x, of the residual and of what is written, in one row.
template <class T, class R>
struct Row {
  const T* x;
  const R* residual;
  R* sum;
  T* y;

  MAMBASDK_ALWAYS_INLINE Row from(Index i) const {
    return {x + i, residual != nullptr ? residual + i : nullptr, sum != nullptr ? sum + i : nullptr, y + i};
  }
};

// sum = x + residual, rounded to R, and the first sum of statistics over it: what the norm, and the backward pass, see.
template <bool kMean, class T, class R>
MAMBASDK_SIMD float add_residual(const Row<T, R>& row, const Row<T, R>& ahead, Index n) {
  return sum_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
    prefetch_vectors<1, 2>(ahead.x + i);
    prefetch_vectors<1, 2>(ahead.residual + i);
    prefetch_vectors<1, 2>(ahead.sum + i);
    vf h = load_n(row.x + i, count) + load_n(row.residual + i, count);
    store_n(row.sum + i, h, count);
    if constexpr (sizeof(R) == 2) h = load_n(static_cast<const R*>(row.sum) + i, count);
    return first_term<kMean>(h);
  });
}

template <bool kMean, bool kBias, class T, class R>
MAMBASDK_SIMD void forward_groups(const Args& a, const Row<T, R>& row, const Row<T, R>& ahead) {
  const float* weight = a.table;
  const float* bias = a.table + padded(a.channels);
  const Index n = a.group_size;
  for (Index g = 0; g < a.channels; g += n) {
    const Row<T, R> here = row.from(g), next = ahead.from(g);
    if (row.residual != nullptr) {
      const float sum = add_residual<kMean>(here, next, n);
      const R* v = here.sum;
      scale_row<kMean, kBias>(v, weight + g, bias + g, statistics_of<kMean>(v, n, a.eps, sum), here.y, n, next.y);
    } else {
      const Statistics s = statistics<kMean>(here.x, n, a.eps, next.x);
      scale_row<kMean, kBias>(here.x, weight + g, bias + g, s, here.y, n, next.y);
    }
  }
}

// Rows of unit stride, no gate, and a residual of type T or float32 if any.
MAMBASDK_SIMD bool is_plain(const Args& a) {
  if (a.z.data != nullptr || a.x.element_stride != 1) return false;
  return a.residual.data == nullptr ||
         (a.residual.element_stride == 1 && (is_float(a.residual.type) || same_type(a.residual.type, a.x.type)));
}

template <bool kMean, class T, class R>
[[gnu::noinline]] void forward_plain(const Args& a, Index task) {
  const bool has_residual = a.residual.data != nullptr;
  const auto row = [&](Index r) __attribute__((always_inline)) {
    return Row<T, R>{row_of<T>(a.x, r), has_residual ? row_of<R>(a.residual, r) : nullptr,
                     has_residual ? static_cast<R*>(a.residual_out) + r * a.channels : nullptr,
                     static_cast<T*>(a.y) + r * a.channels};
  };
  for (Index r = task * a.rows_per_task; r < last_row(a, task); ++r) {
    const Row<T, R> here = row(r), ahead = row(r + 1 < a.rows ? r + 1 : r);
    if (a.bias.data != nullptr) {
      forward_groups<kMean, true>(a, here, ahead);
    } else {
      forward_groups<kMean, false>(a, here, ahead);
    }
  }
}

template <bool kMean, class T>
void forward_plain_of(const Args& a, Index task) {
  if (a.residual.data != nullptr && is_float(a.residual.type)) return forward_plain<kMean, T, float>(a, task);
  return forward_plain<kMean, T, T>(a, task);
}

// Any row, of which v is x in float32; in float32 buffers where the others are not that already.
template <bool kMean>
void forward_row(const Args& a, Index r, const float* v, float* scratch) {
  const Index n = a.channels;
  float* buffer = scratch;  // (D,) each
  float* gate = scratch + padded(n);
  float* out = scratch + 2 * padded(n);
  if (a.residual.data != nullptr) {
    const float* residual = read_row(a.residual, r, gate, n);
    float* sum = output_at(a.residual_out, a.residual.type, r * n, buffer);
    for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
      store_n(sum + i, load_n(v + i, count) + load_n(residual + i, count), count);
    });
    write_out(sum, a.residual_out, a.residual.type, r * n, n);
    v = sum;
    if (!is_float(a.residual.type)) {  // the norm is of the rounded sum, which the backward pass will see
      const Rows rounded{a.residual_out, nullptr, n, 1, a.residual.type};
      v = read_row(rounded, r, buffer, n);
    }
  }
  const bool gated = a.z.data != nullptr;
  if (gated) {
    const float* z = read_row(a.z, r, gate, n);
    for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
      const vf zi = load_n(z + i, count);
      const vf g = a.sigmoid_gate ? sigmoid(zi) : silu(zi);
      store_n(gate + i, a.norm_before_gate ? g : g * load_n(v + i, count), count);
    });
    if (!a.norm_before_gate) v = gate;
  }
  float* y = output_at(a.y, a.x.type, r * n, out);
  const float* weight = a.table;
  const float* bias = a.table + padded(n);
  for (Index g = 0; g < n; g += a.group_size) {
    const Statistics s = statistics<kMean>(v + g, a.group_size, a.eps, v + g);
    float* to = y + g;
    if (a.bias.data != nullptr) {
      scale_row<kMean, true>(v + g, weight + g, bias + g, s, to, a.group_size, static_cast<const float*>(to));
    } else {
      scale_row<kMean, false>(v + g, weight + g, bias + g, s, to, a.group_size, static_cast<const float*>(to));
    }
  }
  if (gated && a.norm_before_gate) {
    for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
      store_n(y + i,
              load_n(static_cast<const float*>(y) + i, count) * load_n(static_cast<const float*>(gate) + i, count),
              count);
    });
  }
  write_out(y, a.y, a.x.type, r * n, n);
}

template <bool kMean>
void forward_task(const Args& a, Index task, float* scratch) {
  if (is_plain(a)) {
    return with_own_type(a.x.type, [&]<class T>(T) { forward_plain_of<kMean, T>(a, task); });
  }
  const Index n = a.channels, last = last_row(a, task);
  for (Index r = task * a.rows_per_task; r < last;) {
    if (a.x.element_stride == 1 || r + kLanes > last || !are_side_by_side(a.x, r)) {
      forward_row<kMean>(a, r, read_row(a.x, r, scratch, n), scratch);
      ++r;
      continue;
    }
    // Rows of channel-first memory, turned together.
    float* turned = scratch + kForwardRows * padded(n);
    with_type(a.x.type, [&]<class T>(T) { turn_rows(row_of<T>(a.x, r), a.x.element_stride, turned, padded(n), n); });
    for (Index i = 0; i < kLanes; ++i, ++r) forward_row<kMean>(a, r, turned + i * padded(n), scratch);
  }
}

}  // namespace

void norm_forward(const Args& a, const Parallel& parallel) {
  if (a.channels == 0) return;
  MAMBASDK_SHARE_AVX512(a.x.type == dtype::bf16, norm_forward(a, parallel));
  fill_table(a);
  // Concurrent ranges begin at different tasks, so the first task's number names a scratch slot nobody else uses.
  parallel(tasks(a), grain_of(a), [&](Index begin, Index end) {
    float* scratch = a.scratch + begin * scratch_rows(a) * padded(a.channels);
    for (Index task = begin; task < end; ++task) {
      if (a.subtract_mean) {
        forward_task<true>(a, task, scratch);
      } else {
        forward_task<false>(a, task, scratch);
      }
    }
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
