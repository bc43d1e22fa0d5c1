// rms_norm and layer_norm backward, vectorised: rows of four at a time, so that the sums of the weights' gradients are
// loaded and stored once for all of them. Rows with a gate, of strided elements or of mixed 16-bit types are copied to
// float32 first.
#include "ops/norm/norm_simd.hpp"
#include "ops/vector_sums.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr int kRows = 4;  // at a time

struct Parts {
  float* grad_weight;  // (D,) sums of one task
  float* grad_bias;
};

// A group of one row: v was normalised, `more` is what else dL/dv takes (or null), grad_v and grad_v_too are what it is
// written to (the second may be null).
template <class V, class T>
struct GroupRow {
  const V* v;
  const T* grad;
  const V* more;
  T* grad_v;
  V* grad_v_too;
};

// With x^ = (v - mean) rstd and g = dL/dx^ = grad * weight, dL/dv = rstd (g - mean(g) - x^ mean(g x^)), without mean(g)
// for rms_norm: rstd g - slope (v - mean) - shift.
struct Coefficients {
  float mean, rstd, slope, shift;
};

template <bool kMean, class V, class T>
MAMBASDK_SIMD Coefficients coefficients(const GroupRow<V, T>& row, const float* weight, Index n, float eps,
                                        const GroupRow<V, T>& ahead) {
  const float inverse_n = 1.0f / static_cast<float>(n);
  vf center = zero();
  float mean = 0.0f;
  if constexpr (kMean) {
    mean = inverse_n *
           sum_lanes(n, [&](Index i, int count) __attribute__((always_inline)) { return load_n(row.v + i, count); });
    center = set1(mean);
  }
  vf square[2] = {zero(), zero()}, sum_g[2] = {zero(), zero()}, sum_gv[2] = {zero(), zero()};
  const auto add_up = [&](Index i, int count, int lane) __attribute__((always_inline)) {
    const vf g = load_n(row.grad + i, count) * load_n(weight + i, count);  // zero past count
    vf v = load_n(row.v + i, count);
    if constexpr (kMean) v = only(v - center, count);
    square[lane] = square[lane] + v * v;
    sum_gv[lane] = sum_gv[lane] + g * v;
    if constexpr (kMean) sum_g[lane] = sum_g[lane] + g;
  };
  Index i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    prefetch_vectors<2, 2>(ahead.v + i);
    prefetch_vectors<2, 2>(ahead.grad + i);
    prefetch_vectors<2, 2>(row.grad_v + i);
    add_up(i, kLanes, 0);
    add_up(i + kLanes, kLanes, 1);
  }
  for (; i < n; i += kLanes) add_up(i, lanes_left(i, n), 0);
  const float rstd = 1.0f / __builtin_sqrtf(inverse_n * reduce_add(square[0] + square[1]) + eps);
  const float mean_gx = inverse_n * reduce_add(sum_gv[0] + sum_gv[1]) * rstd;
  const float mean_g = kMean ? inverse_n * reduce_add(sum_g[0] + sum_g[1]) : 0.0f;
  return {mean, rstd, mean_gx * rstd * rstd, mean_g * rstd};
}

// Adds kCount rows to the weights' gradients and writes their dL/dv.
template <bool kMean, bool kBias, int kCount, class V, class T>
MAMBASDK_SIMD void backward_rows(const GroupRow<V, T>* rows, const Coefficients* c, const float* weight, Parts parts,
                                 Index n) {
  vf mean[kCount], rstd[kCount], slope[kCount], shift[kCount];
  for (int r = 0; r < kCount; ++r) {
    mean[r] = set1(c[r].mean);
    rstd[r] = set1(c[r].rstd);
    slope[r] = set1(c[r].slope);
    shift[r] = set1(c[r].shift);
  }
  // dL/dv of one vector of row r.
  const auto one = [&](int r, Index i, int count, vf w, vf& grad_weight, vf& grad_bias) __attribute__((always_inline)) {
    const vf grad = load_n(rows[r].grad + i, count);
    vf v = load_n(rows[r].v + i, count);
    if constexpr (kMean) v = v - mean[r];
    const vf scaled = grad * rstd[r];
    grad_weight = grad_weight + scaled * v;
    if constexpr (kBias) grad_bias = grad_bias + grad;
    vf out = scaled * w - slope[r] * v;
    if constexpr (kMean) out = out - shift[r];
    if (rows[r].more != nullptr) out = out + load_n(rows[r].more + i, count);
    return out;
  };
  Index i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const vf w0 = load(weight + i), w1 = load(weight + i + kLanes);
    float* to = parts.grad_weight + i;
    vf weight0 = load(static_cast<const float*>(to)), weight1 = load(static_cast<const float*>(to) + kLanes);
    vf bias0 = zero(), bias1 = zero();
#pragma GCC unroll 4
    for (int r = 0; r < kCount; ++r) {
      const vf first = one(r, i, kLanes, w0, weight0, bias0), second = one(r, i + kLanes, kLanes, w1, weight1, bias1);
      store_pair(rows[r].grad_v + i, first, second);
      if (rows[r].grad_v_too != nullptr) store_pair(rows[r].grad_v_too + i, first, second);
    }
    store(to, weight0);
    store(to + kLanes, weight1);
    if constexpr (kBias) {
      float* sum = parts.grad_bias + i;
      store(sum, load(static_cast<const float*>(sum)) + bias0);
      store(sum + kLanes, load(static_cast<const float*>(sum) + kLanes) + bias1);
    }
  }
  for (; i < n; i += kLanes) {
    const int count = lanes_left(i, n);
    const vf w = load_n(weight + i, count);
    vf grad_weight = load_n(static_cast<const float*>(parts.grad_weight) + i, count), grad_bias = zero();
    for (int r = 0; r < kCount; ++r) {
      const vf out = one(r, i, count, w, grad_weight, grad_bias);
      store_n(rows[r].grad_v + i, out, count);
      if (rows[r].grad_v_too != nullptr) store_n(rows[r].grad_v_too + i, out, count);
    }
    store_n(parts.grad_weight + i, grad_weight, count);
    if constexpr (kBias) {
      store_n(parts.grad_bias + i, load_n(static_cast<const float*>(parts.grad_bias) + i, count) + grad_bias, count);
    }
  }
}

// ---- rows as they lie in memory ----

// No gate, unit strides, and grad_y of the type of what was normalised, or that of float32.
MAMBASDK_SIMD bool is_plain(const BackwardArgs& b) {
  const Args& a = b.forward;
  if (a.z.data != nullptr || a.x.element_stride != 1 || b.grad_y.element_stride != 1) return false;
  if (b.grad_residual_out.data != nullptr &&
      (b.grad_residual_out.element_stride != 1 || !same_type(b.grad_residual_out.type, a.x.type)))
    return false;
  return is_float(a.x.type) || same_type(a.x.type, b.grad_y.type);
}

template <bool kMean, bool kBias, int kCount, class V, class T>
MAMBASDK_SIMD void backward_plain_rows(const BackwardArgs& b, Index first, Parts parts) {
  const Args& a = b.forward;
  const auto at = [&](Index r, Index g) __attribute__((always_inline)) {
    const Index offset = r * a.channels + g;
    return GroupRow<V, T>{row_of<V>(a.x, r) + g, row_of<T>(b.grad_y, r) + g,
                          b.grad_residual_out.data != nullptr ? row_of<V>(b.grad_residual_out, r) + g : nullptr,
                          static_cast<T*>(b.grad_x) + offset,
                          b.grad_residual != nullptr ? static_cast<V*>(b.grad_residual) + offset : nullptr};
  };
  for (Index g = 0; g < a.channels; g += a.group_size) {
    GroupRow<V, T> rows[kCount];
    Coefficients c[kCount];
    for (int r = 0; r < kCount; ++r) {
      const Index ahead = first + r + kCount < a.rows ? first + r + kCount : a.rows - 1;
      rows[r] = at(first + r, g);
      c[r] = coefficients<kMean>(rows[r], a.table + g, a.group_size, a.eps, at(ahead, g));
    }
    backward_rows<kMean, kBias, kCount>(rows, c, a.table + g, {parts.grad_weight + g, parts.grad_bias + g},
                                        a.group_size);
  }
}

template <bool kMean, bool kBias, class V, class T>
[[gnu::noinline]] void backward_plain(const BackwardArgs& b, Index task, Parts parts) {
  const Index end = last_row(b.forward, task);
  Index r = task * b.forward.rows_per_task;
  for (; r + kRows <= end; r += kRows) backward_plain_rows<kMean, kBias, kRows, V, T>(b, r, parts);
  for (; r < end; ++r) backward_plain_rows<kMean, kBias, 1, V, T>(b, r, parts);
}

// ---- any row, in float32 buffers where its elements are not that already ----

template <bool kMean, bool kBias>
void backward_row(const BackwardArgs& b, Index r, float* scratch, Parts parts) {
  const Args& a = b.forward;
  const Index n = a.channels;
  const Index row = padded(n);
  float* out = scratch;  // (D,) each
  float* gated = scratch + row;
  float* gate = scratch + 2 * row;
  float* gate_slope = scratch + 3 * row;
  const float* h = read_row(a.x, r, scratch + 4 * row, n);
  const float* grad = read_row(b.grad_y, r, scratch + 5 * row, n);
  const float* weight = a.table;
  const float* bias = a.table + row;
  const bool has_gate = a.z.data != nullptr;
  const float* v = h;
  if (has_gate) {
    const float* z = read_row(a.z, r, gate, n);
    for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
      const vf zi = load_n(z + i, count);
      const vf s = sigmoid(zi);
      store_n(gate + i, a.sigmoid_gate ? s : zi * s, count);
      store_n(gate_slope + i, a.sigmoid_gate ? s * (1.0f - s) : s + zi * s * (1.0f - s), count);
    });
    // Before the gate: the norm's output has gradient grad * gate. After it: the norm saw h * gate.
    const float* with = a.norm_before_gate ? grad : h;
    for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
      store_n(gated + i, load_n(with + i, count) * load_n(gate + i, count), count);
    });
    if (!a.norm_before_gate) v = gated;
  }
  const float* grad_norm = has_gate && a.norm_before_gate ? gated : grad;
  float* grad_h = output_at(b.grad_x, b.grad_y.type, r * n, out);
  for (Index g = 0; g < n; g += a.group_size) {
    const GroupRow<float, float> here{v + g, grad_norm + g, nullptr, grad_h + g, nullptr};
    const Coefficients c = coefficients<kMean>(here, weight + g, a.group_size, a.eps, here);
    if (has_gate && a.norm_before_gate) {  // dL/dz needs the norm's output
      for_lanes(a.group_size, [&](Index j, int count) __attribute__((always_inline)) {
        const Index i = g + j;
        const vf x = (load_n(v + i, count) - set1(c.mean)) * set1(c.rstd);
        const vf normed = x * load_n(weight + i, count) + load_n(bias + i, count);
        store_n(gate_slope + i, load_n(gate_slope + i, count) * load_n(grad + i, count) * normed, count);
      });
    }
    backward_rows<kMean, kBias, 1>(&here, &c, weight + g, {parts.grad_weight + g, parts.grad_bias + g}, a.group_size);
  }
  if (has_gate) {
    if (!a.norm_before_gate) {
      for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
        const vf grad_v = load_n(grad_h + i, count);
        store_n(gate_slope + i, load_n(gate_slope + i, count) * grad_v * load_n(h + i, count), count);
        store_n(grad_h + i, grad_v * load_n(gate + i, count), count);
      });
    }
    if (b.grad_z != nullptr) write_out(gate_slope, b.grad_z, a.z.type, r * n, n);
  }
  if (b.grad_residual_out.data != nullptr) {
    const float* more = read_row(b.grad_residual_out, r, gate, n);
    for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
      store_n(grad_h + i, load_n(grad_h + i, count) + load_n(more + i, count), count);
    });
  }
  write_out(grad_h, b.grad_x, b.grad_y.type, r * n, n);
  if (b.grad_residual != nullptr) write_out(grad_h, b.grad_residual, a.x.type, r * n, n);
}

template <bool kMean, bool kBias>
void backward_task(const BackwardArgs& b, Index task, float* scratch, Parts parts) {
  if (is_plain(b)) {
    return with_own_type(b.grad_y.type, [&]<class T>(T) {
      if (is_float(b.forward.x.type)) return backward_plain<kMean, kBias, float, T>(b, task, parts);
      return backward_plain<kMean, kBias, T, T>(b, task, parts);
    });
  }
  for (Index r = task * b.forward.rows_per_task; r < last_row(b.forward, task); ++r) {
    backward_row<kMean, kBias>(b, r, scratch, parts);
  }
}

template <bool kMean>
void backward_task_of(const BackwardArgs& b, Index task, float* scratch, Parts parts) {
  if (b.grad_bias != nullptr) return backward_task<kMean, true>(b, task, scratch, parts);
  return backward_task<kMean, false>(b, task, scratch, parts);
}

}  // namespace

void norm_backward(const BackwardArgs& b, const Parallel& parallel) {
  const Args& a = b.forward;
  if (a.channels == 0) return;
  MAMBASDK_SHARE_AVX512(b.grad_y.type == dtype::bf16, norm_backward(b, parallel));
  fill_table(a);
  const Index row = padded(a.channels);
  parallel(tasks(a), grain_of(a), [&](Index begin, Index end) {
    float* scratch = a.scratch + begin * kBackwardRows * row;
    for (Index task = begin; task < end; ++task) {
      const Parts parts{b.partial + task * 2 * row, b.partial + task * 2 * row + row};
      for (Index i = 0; i < 2 * row; ++i) parts.grad_weight[i] = 0.0f;
      if (a.subtract_mean) {
        backward_task_of<true>(b, task, scratch, parts);
      } else {
        backward_task_of<false>(b, task, scratch, parts);
      }
    }
  });
  if (b.grad_weight == nullptr && b.grad_bias == nullptr) return;
  const Index count = tasks(a);
  parallel(row / 64, 4, [&](Index begin, Index end) {
    for (Index i = begin * 64; i < end * 64; i += kLanes) {
      const int n = a.channels - i < kLanes ? static_cast<int>(a.channels - i) : kLanes;
      if (n <= 0) break;
      for (int which = 0; which < 2; ++which) {
        void* out = which == 0 ? b.grad_weight : b.grad_bias;
        if (out == nullptr) continue;
        const vf sum = sum_parts<16>(b.partial + which * row + i, count, 2 * row);
        with_type(b.weight_type, [&]<class W>(W) { store_n(static_cast<W*>(out) + i, sum, n); });
      }
    }
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
