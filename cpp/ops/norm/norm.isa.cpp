// rms_norm and layer_norm, vectorised, row by row: a row stays in the first-level cache while a few short loops pass
// over it in float32. Plain rows of 16-bit types are widened by each loop: their copies in float32 would not fit that
// cache beside the sums of the weights' gradients. Rows with a gate or a residual are copied.
#include "ops/norm/norm.hpp"

#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace norm;
using Index = std::int64_t;

MAMBASDK_SIMD int lanes_left(Index i, Index n) {
  return n - i < kLanes ? static_cast<int>(n - i) : kLanes;
}

// ---- statistics of a group ----

struct Statistics {
  float mean;
  float rstd;
};

// Four independent sums, so that additions overlap; the order depends on n alone.
template <class F>
MAMBASDK_SIMD float sum_lanes(Index n, F&& term) {
  vf sum[4] = {zero(), zero(), zero(), zero()};
  Index i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) sum[j] = sum[j] + term(i + j * kLanes, kLanes);
  }
  for (; i < n; i += kLanes) sum[0] = sum[0] + term(i, lanes_left(i, n));
  return reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// The lanes past `count` as zeros.
MAMBASDK_SIMD vf only(vf x, int count) {
  if (count >= kLanes) return x;
  alignas(64) float mask[kLanes] = {};
  for (int i = 0; i < count; ++i) mask[i] = 1.0f;
  return x * load(static_cast<const float*>(mask));
}

template <bool kMean, class T>
MAMBASDK_SIMD Statistics statistics(const T* v, Index n, float eps) {
  const float inverse_n = 1.0f / static_cast<float>(n);
  float mean = 0.0f;
  if constexpr (kMean) {
    mean = inverse_n *
           sum_lanes(n, [&](Index i, int count) __attribute__((always_inline)) { return load_n(v + i, count); });
  }
  const vf center = set1(mean);
  const float variance = inverse_n * sum_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
                           const vf d = kMean ? only(load_n(v + i, count) - center, count) : load_n(v + i, count);
                           return d * d;
                         });
  return {mean, 1.0f / __builtin_sqrtf(variance + eps)};
}

// ---- forward ----

template <bool kBias, bool kGate, class T>
MAMBASDK_SIMD void scale_group(const T* v, const float* gate, const float* weight, const float* bias, Statistics s,
                               T* y, Index n) {
  const vf mean = set1(s.mean);
  const vf rstd = set1(s.rstd);
  for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
    vf out = (load_n(v + i, count) - mean) * rstd * load_n(weight + i, count);
    if constexpr (kBias) out = out + load_n(bias + i, count);
    if constexpr (kGate) out = out * load_n(gate + i, count);
    store_n(y + i, out, count);
  });
}

// 16-bit rows with unit stride, neither gate nor residual.
MAMBASDK_SIMD bool is_plain(const Args& a) {
  return !is_float(a.x.type) && a.residual.data == nullptr && a.z.data == nullptr && a.x.element_stride == 1;
}

template <bool kMean, class T>
void forward_plain_row(const Args& a, Index r) {
  const Index n = a.channels;
  const T* v = row_of<T>(a.x, r);
  T* y = static_cast<T*>(a.y) + r * n;
  const float* weight = a.table;
  const float* bias = a.table + padded(n);
  for (Index g = 0; g < n; g += a.group_size) {
    const Statistics s = statistics<kMean>(v + g, a.group_size, a.eps);
    if (a.bias.data != nullptr)
      scale_group<true, false>(v + g, nullptr, weight + g, bias + g, s, y + g, a.group_size);
    else
      scale_group<false, false>(v + g, nullptr, weight + g, bias + g, s, y + g, a.group_size);
  }
}

template <bool kMean>
void forward_row(const Args& a, Index r, float* scratch) {
  if (is_plain(a)) {
    if (is_bf16(a.x.type)) return forward_plain_row<kMean, bf16>(a, r);
    return forward_plain_row<kMean, f16>(a, r);
  }
  const Index n = a.channels;
  float* buffer = scratch;  // (D,) each
  float* gate = scratch + padded(n);
  float* out = scratch + 2 * padded(n);
  const float* v = read_row(a.x, r, buffer, n);
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
      const vf g = silu(load_n(z + i, count));
      store_n(gate + i, a.norm_before_gate ? g : g * load_n(v + i, count), count);
    });
    if (!a.norm_before_gate) v = gate;
  }
  float* y = output_at(a.y, a.x.type, r * n, out);
  const float* weight = a.table;
  const float* bias = a.table + padded(n);
  for (Index g = 0; g < n; g += a.group_size) {
    const Statistics s = statistics<kMean>(v + g, a.group_size, a.eps);
    const bool gate_now = gated && a.norm_before_gate;
    if (a.bias.data != nullptr) {
      if (gate_now) {
        scale_group<true, true>(v + g, gate + g, weight + g, bias + g, s, y + g, a.group_size);
      } else {
        scale_group<true, false>(v + g, gate + g, weight + g, bias + g, s, y + g, a.group_size);
      }
    } else if (gate_now) {
      scale_group<false, true>(v + g, gate + g, weight + g, bias + g, s, y + g, a.group_size);
    } else {
      scale_group<false, false>(v + g, gate + g, weight + g, bias + g, s, y + g, a.group_size);
    }
  }
  write_out(y, a.y, a.x.type, r * n, n);
}

// ---- backward ----

struct Parts {
  float* grad_weight;  // (D,) sums of one task
  float* grad_bias;
};

// With x^ = (v - mean) rstd and g = dL/dx^ = grad * weight: adds to the weights' gradients, and turns `grad` (dL/d of
// the norm's output) into dL/dv = rstd (g - mean(g) - x^ mean(g x^)), without mean(g) for rms_norm.
template <bool kMean, bool kParts, class T>
MAMBASDK_SIMD void backward_group(const T* v, const T* grad, const float* weight, Statistics s, Parts parts, T* grad_v,
                                  Index n) {
  const vf mean = set1(s.mean);
  const vf rstd = set1(s.rstd);
  float mean_g = 0.0f;
  vf sum_g[2] = {zero(), zero()};
  vf sum_gx[2] = {zero(), zero()};
  const auto accumulate = [&](Index i, int count, int lane) __attribute__((always_inline)) {
    const vf gy = load_n(grad + i, count);  // zero past count
    const vf x = (load_n(v + i, count) - mean) * rstd;
    const vf w = load_n(weight + i, count);
    const vf gyx = gy * x;
    sum_gx[lane] = sum_gx[lane] + gyx * w;
    if constexpr (kMean) sum_g[lane] = sum_g[lane] + gy * w;
    if constexpr (kParts) {
      store_n(parts.grad_weight + i, load_n(parts.grad_weight + i, count) + gyx, count);
      store_n(parts.grad_bias + i, load_n(parts.grad_bias + i, count) + gy, count);
    } else {
      store_n(parts.grad_weight + i, load_n(parts.grad_weight + i, count) + gyx, count);
    }
  };
  Index i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    accumulate(i, kLanes, 0);
    accumulate(i + kLanes, kLanes, 1);
  }
  for (; i < n; i += kLanes) accumulate(i, lanes_left(i, n), 0);
  const float inverse_n = 1.0f / static_cast<float>(n);
  if constexpr (kMean) mean_g = inverse_n * reduce_add(sum_g[0] + sum_g[1]);
  const vf c0 = set1(mean_g);
  const vf c1 = set1(inverse_n * reduce_add(sum_gx[0] + sum_gx[1]));
  for_lanes(n, [&](Index j, int count) __attribute__((always_inline)) {
    const vf x = (load_n(v + j, count) - mean) * rstd;
    vf g = load_n(grad + j, count) * load_n(weight + j, count) - x * c1;
    if constexpr (kMean) g = g - c0;
    store_n(grad_v + j, rstd * g, count);
  });
}

// Nothing but x and the gradient of y comes in, both of one dtype and with unit stride.
MAMBASDK_SIMD bool is_plain(const BackwardArgs& b) {
  return is_plain(b.forward) && b.grad_y.element_stride == 1 && b.grad_y.type.bits == b.forward.x.type.bits &&
         b.grad_y.type.code == b.forward.x.type.code && b.grad_residual_out.data == nullptr &&
         b.grad_residual == nullptr;
}

template <bool kMean, class T>
void backward_plain_row(const BackwardArgs& b, Index r, Parts parts) {
  const Args& a = b.forward;
  const T *v = row_of<T>(a.x, r), *grad = row_of<T>(b.grad_y, r);
  T* grad_x = static_cast<T*>(b.grad_x) + r * a.channels;
  for (Index g = 0; g < a.channels; g += a.group_size) {
    const Statistics s = statistics<kMean>(v + g, a.group_size, a.eps);
    const Parts here{parts.grad_weight + g, parts.grad_bias + g};
    if (b.grad_bias != nullptr)
      backward_group<kMean, true>(v + g, grad + g, a.table + g, s, here, grad_x + g, a.group_size);
    else
      backward_group<kMean, false>(v + g, grad + g, a.table + g, s, here, grad_x + g, a.group_size);
  }
}

template <bool kMean>
void backward_row(const BackwardArgs& b, Index r, float* scratch, Parts parts) {
  if (is_plain(b)) {
    if (is_bf16(b.forward.x.type)) return backward_plain_row<kMean, bf16>(b, r, parts);
    return backward_plain_row<kMean, f16>(b, r, parts);
  }
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
      store_n(gate + i, zi * s, count);
      store_n(gate_slope + i, s + zi * s * (1.0f - s), count);
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
    const Statistics s = statistics<kMean>(v + g, a.group_size, a.eps);
    if (has_gate && a.norm_before_gate) {  // dL/dz needs the norm's output
      for_lanes(a.group_size, [&](Index j, int count) __attribute__((always_inline)) {
        const Index i = g + j;
        const vf x = (load_n(v + i, count) - set1(s.mean)) * set1(s.rstd);
        const vf normed = x * load_n(weight + i, count) + load_n(bias + i, count);
        store_n(gate_slope + i, load_n(gate_slope + i, count) * load_n(grad + i, count) * normed, count);
      });
    }
    const Parts here{parts.grad_weight + g, parts.grad_bias + g};
    if (b.grad_bias != nullptr) {
      backward_group<kMean, true>(v + g, grad_norm + g, weight + g, s, here, grad_h + g, a.group_size);
    } else {
      backward_group<kMean, false>(v + g, grad_norm + g, weight + g, s, here, grad_h + g, a.group_size);
    }
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

void fill_table(const Args& a) {
  const Index n = a.channels;
  float* weight = a.table;
  float* bias = a.table + padded(n);
  for (Index i = 0; i < n; ++i) weight[i] = 1.0f;
  for (Index i = 0; i < n; ++i) bias[i] = 0.0f;
  if (a.weight.data != nullptr) write_out(read_row(a.weight, 0, weight, n), weight, {2, 32}, 0, n);
  if (a.bias.data != nullptr) write_out(read_row(a.bias, 0, bias, n), bias, {2, 32}, 0, n);
}

// A range should be worth its hand-over: some 16 K elements.
MAMBASDK_SIMD Index grain_of(const Args& a) {
  const Index elements = a.rows_per_task * a.channels + 1;
  return 16384 / elements > 1 ? 16384 / elements : 1;
}

template <class F>
void for_task_rows(const Args& a, Index task, F&& f) {
  const Index end = (task + 1) * a.rows_per_task < a.rows ? (task + 1) * a.rows_per_task : a.rows;
  for (Index r = task * a.rows_per_task; r < end; ++r) f(r);
}

// Sums the tasks' parts in a fixed order, two levels deep to keep float32's error small.
MAMBASDK_SIMD vf sum_tasks(const float* partial, Index count, Index stride) {
  vf total = zero();
  for (Index g = 0; g < count; g += 16) {
    vf part = zero();
    const Index end = g + 16 < count ? g + 16 : count;
    for (Index i = g; i < end; ++i) part = part + load(partial + i * stride);
    total = total + part;
  }
  return total;
}

}  // namespace

void norm_forward(const Args& a, const Parallel& parallel) {
  if (a.channels == 0) return;
  fill_table(a);
  // Concurrent ranges begin at different tasks, so the first task's number names a scratch slot nobody else uses.
  parallel(tasks(a), grain_of(a), [&](Index begin, Index end) {
    float* scratch = a.scratch + begin * kForwardRows * padded(a.channels);
    for (Index task = begin; task < end; ++task) {
      for_task_rows(a, task, [&](Index r) {
        if (a.subtract_mean) {
          forward_row<true>(a, r, scratch);
        } else {
          forward_row<false>(a, r, scratch);
        }
      });
    }
  });
}

void norm_backward(const BackwardArgs& b, const Parallel& parallel) {
  const Args& a = b.forward;
  if (a.channels == 0) return;
  fill_table(a);
  const Index row = padded(a.channels);
  parallel(tasks(a), grain_of(a), [&](Index begin, Index end) {
    float* scratch = a.scratch + begin * kBackwardRows * row;
    for (Index task = begin; task < end; ++task) {
      const Parts parts{b.partial + task * 2 * row, b.partial + task * 2 * row + row};
      for (Index i = 0; i < 2 * row; ++i) parts.grad_weight[i] = 0.0f;
      for_task_rows(a, task, [&](Index r) {
        if (a.subtract_mean) {
          backward_row<true>(b, r, scratch, parts);
        } else {
          backward_row<false>(b, r, scratch, parts);
        }
      });
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
        const vf sum = sum_tasks(b.partial + which * row + i, count, 2 * row);
        if (is_float(b.weight_type)) {
          store_n(static_cast<float*>(out) + i, sum, n);
        } else if (is_bf16(b.weight_type)) {
          store_n(static_cast<bf16*>(out) + i, sum, n);
        } else {
          store_n(static_cast<f16*>(out) + i, sum, n);
        }
      }
    }
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
