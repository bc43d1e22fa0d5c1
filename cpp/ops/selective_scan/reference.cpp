// Scalar selective scan, forward and backward: one step at a time, every sum in double. What the vector kernels answer
// to.
#include <cmath>
#include <vector>

#include "core/error.hpp"
#include "ops/selective_scan/scan_args.hpp"

namespace mambasdk::selective_scan {
namespace {

using Index = std::int64_t;

double read(const float* p) {
  return *p;
}
double read(const double* p) {
  return *p;
}
double read(const bf16* p) {
  return to_float(*p);
}
double read(const f16* p) {
  return to_float(*p);
}
void write(float* p, double x) {
  *p = static_cast<float>(x);
}
void write(double* p, double x) {
  *p = x;
}
void write(bf16* p, double x) {
  *p = from_float<bf16>::cast(static_cast<float>(x));
}
void write(f16* p, double x) {
  *p = from_float<f16>::cast(static_cast<float>(x));
}

// Element (i, j, …) of a view; shape and type are the caller's knowledge.
template <class T, class... I>
T* at(const StridedView& v, I... indices) {
  const Index list[] = {indices...};
  Index offset = 0;
  for (std::size_t d = 0; d < sizeof...(I); ++d) offset += list[d] * v.stride[d];
  return static_cast<T*>(v.data) + offset;
}
template <class T, class... I>
double get(const StridedView& v, I... indices) {
  return v.data == nullptr ? 0.0 : read(at<T>(v, indices...));
}

// Elements of a tensor of T, or of float32 where it is `wide`.
template <class T, class... I>
double get_mixed(const StridedView& v, bool wide, I... indices) {
  return wide ? get<float>(v, indices...) : get<T>(v, indices...);
}
template <class T, class... I>
void put_mixed(const StridedView& v, bool wide, double x, I... indices) {
  if (wide) {
    write(at<float>(v, indices...), x);
  } else {
    write(at<T>(v, indices...), x);
  }
}

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}
// decay times what it applies to: a decay of 0 leaves nothing, not even of infinity or NaN.
double decayed(double decay, double x) {
  return decay == 0.0 ? 0.0 : decay * x;
}
double softplus(double x) {
  return x > 20.0 ? x : std::log1p(std::exp(x));
}

struct Steps {
  const SelectiveScanArgs& a;
  Index position(Index k, Index t) const { return a.order.data != nullptr ? *at<std::int32_t>(a.order, k, t) : t; }
  Index row(Index k, Index t) const { return a.step_params ? t : position(k, t); }
  bool packed() const { return a.cu_seqlens.data != nullptr; }
  Index first_sequence(Index b) const { return packed() ? 0 : b; }
  Index last_sequence(Index b) const { return packed() ? a.sequences : b + 1; }
  Index begin(Index s) const { return packed() ? *at<std::int32_t>(a.cu_seqlens, s) : 0; }
  Index end(Index s) const { return packed() ? *at<std::int32_t>(a.cu_seqlens, s + 1) : a.steps; }
};

// T: inputs and outputs; S: states and parameters (acc).
template <class T, class S>
struct Reference {
  const SelectiveScanArgs& a;
  Steps steps{a};

  double raw_delta(Index b, Index k, Index row, Index d) const {
    return get_mixed<T>(a.delta, a.wide_delta(), b, k, row, d) + get<S>(a.delta_bias, k, d);
  }
  double delta(Index b, Index k, Index row, Index d) const {
    const double raw = raw_delta(b, k, row, d);
    return a.delta_softplus ? softplus(raw) : raw;
  }

  // Ungated y of one batch row and channel, summed over routes, and the states on the way.
  void run(Index b, Index d, std::vector<double>& y) const {
    const Index g = d / (a.channels / a.groups);
    std::vector<double> h(static_cast<std::size_t>(a.states));
    for (Index k = 0; k < a.routes; ++k) {
      std::fill(h.begin(), h.end(), 0.0);
      for (Index s = steps.first_sequence(b); s < steps.last_sequence(b); ++s) {
        for (Index t = steps.begin(s); t < steps.end(s); ++t) {
          if (a.chunk_states.data != nullptr && t % kScanChunk == 0) {
            for (Index n = 0; n < a.states; ++n) {
              write(at<S>(a.chunk_states, b, k, t / kScanChunk, d, n), h[static_cast<std::size_t>(n)]);
            }
          }
          if (t == steps.begin(s)) load_initial(s, k, d, h);
          const Index p = steps.position(k, t), row = steps.row(k, t);
          const double dt = delta(b, k, row, d), x = get<T>(a.u, b, p, d);
          double sum = a.D.data != nullptr ? get<S>(a.D, k, d) * x : 0.0;
          for (Index n = 0; n < a.states; ++n) {
            double& state = h[static_cast<std::size_t>(n)];
            state = decayed(std::exp(dt * get<S>(a.A, k, d, n)), state) + dt * x * get<T>(a.B, b, k, row, g, n);
            sum += get<T>(a.C, b, k, row, g, n) * state;
          }
          y[static_cast<std::size_t>(p)] += sum;
        }
        if (steps.begin(s) == steps.end(s)) {
          if (a.final_state.data == nullptr) continue;
          std::vector<double> through(h.size());
          load_initial(s, k, d, through);
          store_final(s, k, d, through);
        } else {
          store_final(s, k, d, h);
        }
      }
    }
  }
  void load_initial(Index s, Index k, Index d, std::vector<double>& h) const {
    for (Index n = 0; n < a.states; ++n) h[static_cast<std::size_t>(n)] = get<S>(a.initial_state, s, k, d, n);
  }
  void store_final(Index s, Index k, Index d, const std::vector<double>& h) const {
    if (a.final_state.data == nullptr) return;
    for (Index n = 0; n < a.states; ++n) write(at<S>(a.final_state, s, k, d, n), h[static_cast<std::size_t>(n)]);
  }

  void forward() const {
    std::vector<double> y(static_cast<std::size_t>(a.length));
    for (Index b = 0; b < a.batch; ++b) {
      for (Index d = 0; d < a.channels; ++d) {
        std::fill(y.begin(), y.end(), 0.0);
        run(b, d, y);
        for (Index p = 0; p < a.length; ++p) {
          const double z = get_mixed<T>(a.z, a.wide_z(), b, p, d);
          write(at<T>(a.y, b, p, d), y[static_cast<std::size_t>(p)] * (a.z.data != nullptr ? z * sigmoid(z) : 1.0));
        }
      }
    }
  }

  void backward(const SelectiveScanGrads& grads) const {
    const auto size = [](Index n) { return static_cast<std::size_t>(n); };
    const Index rows = a.batch * a.routes * a.params * a.groups * a.states;
    std::vector<double> grad_B(size(rows)), grad_C(size(rows));                         // [B,K,P,G,N]
    std::vector<double> grad_A(size(a.routes * a.channels * a.states));                 // [K,D,N]
    std::vector<double> grad_D(size(a.routes * a.channels)), grad_bias(grad_D.size());  // [K,D]
    std::vector<double> y(size(a.length)), grad_y(size(a.length)), grad_u(size(a.length)), grad_delta(size(a.params));
    for (Index b = 0; b < a.batch; ++b) {
      for (Index d = 0; d < a.channels; ++d) {
        std::fill(grad_u.begin(), grad_u.end(), 0.0);
        if (a.z.data != nullptr) {
          std::fill(y.begin(), y.end(), 0.0);
          SelectiveScanArgs plain = a;
          plain.chunk_states.data = plain.final_state.data = nullptr;
          Reference{plain}.run(b, d, y);
        }
        for (Index p = 0; p < a.length; ++p) {
          const double g = get<T>(grads.grad_y, b, p, d), z = get_mixed<T>(a.z, a.wide_z(), b, p, d), s = sigmoid(z);
          grad_y[size(p)] = a.z.data != nullptr ? g * z * s : g;
          if (a.z.data != nullptr) {
            put_mixed<T>(grads.grad_z, a.wide_z(), g * y[size(p)] * s * (1.0 + z * (1.0 - s)), b, p, d);
          }
        }
        for (Index k = 0; k < a.routes; ++k) {
          std::fill(grad_delta.begin(), grad_delta.end(), 0.0);
          for (Index s = steps.first_sequence(b); s < steps.last_sequence(b); ++s) {
            sequence(grads, b, k, s, d, grad_y, grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_bias);
          }
          for (Index p = 0; p < a.params; ++p)
            put_mixed<T>(grads.grad_delta, a.wide_delta(), grad_delta[size(p)], b, k, p, d);
        }
        for (Index p = 0; p < a.length; ++p) write(at<T>(grads.grad_u, b, p, d), grad_u[size(p)]);
      }
    }
    Index i = 0;
    for (Index b = 0; b < a.batch; ++b)
      for (Index k = 0; k < a.routes; ++k)
        for (Index p = 0; p < a.params; ++p)
          for (Index g = 0; g < a.groups; ++g)
            for (Index n = 0; n < a.states; ++n, ++i) {
              write(at<T>(grads.grad_B, b, k, p, g, n), grad_B[size(i)]);
              write(at<T>(grads.grad_C, b, k, p, g, n), grad_C[size(i)]);
            }
    for (Index k = 0; k < a.routes; ++k) {
      for (Index d = 0; d < a.channels; ++d) {
        const Index kd = k * a.channels + d;
        for (Index n = 0; n < a.states; ++n) write(at<S>(grads.grad_A, k, d, n), grad_A[size(kd * a.states + n)]);
        if (a.D.data != nullptr) write(at<S>(grads.grad_D, k, d), grad_D[size(kd)]);
        if (a.delta_bias.data != nullptr) write(at<S>(grads.grad_delta_bias, k, d), grad_bias[size(kd)]);
      }
    }
  }

  // Backward through one sequence of one route and channel.
  void sequence(const SelectiveScanGrads& grads, Index b, Index k, Index s, Index d, const std::vector<double>& grad_y,
                std::vector<double>& grad_u, std::vector<double>& grad_delta, std::vector<double>& grad_A,
                std::vector<double>& grad_B, std::vector<double>& grad_C, std::vector<double>& grad_D,
                std::vector<double>& grad_bias) const {
    const auto size = [](Index n) { return static_cast<std::size_t>(n); };
    const Index g = d / (a.channels / a.groups), N = a.states, kd = k * a.channels + d;
    const Index t0 = steps.begin(s), t1 = steps.end(s);
    std::vector<double> h(size(N)), history(size((t1 - t0) * N));  // history: the state before each step
    load_initial(s, k, d, h);
    for (Index t = t0; t < t1; ++t) {
      const Index row = steps.row(k, t);
      const double dt = delta(b, k, row, d), x = get<T>(a.u, b, steps.position(k, t), d);
      for (Index n = 0; n < N; ++n) {
        double& state = h[size(n)];
        history[size((t - t0) * N + n)] = state;
        state = decayed(std::exp(dt * get<S>(a.A, k, d, n)), state) + dt * x * get<T>(a.B, b, k, row, g, n);
      }
    }
    std::vector<double> carry(size(N));  // gradient of the state after step t
    for (Index n = 0; n < N; ++n) carry[size(n)] = get<S>(grads.grad_final_state, s, k, d, n);
    for (Index t = t1 - 1; t >= t0; --t) {
      const Index p = steps.position(k, t), row = steps.row(k, t);
      const double raw = raw_delta(b, k, row, d), dt = delta(b, k, row, d), x = get<T>(a.u, b, p, d);
      const double dy = grad_y[size(p)];
      double dx = 0.0, ddt = 0.0;
      for (Index n = 0; n < N; ++n) {
        const double A = get<S>(a.A, k, d, n), B = get<T>(a.B, b, k, row, g, n), C = get<T>(a.C, b, k, row, g, n);
        const double decay = std::exp(dt * A), before = history[size((t - t0) * N + n)];
        const double after = decayed(decay, before) + dt * x * B, dh = carry[size(n)] + C * dy;
        const Index cell = (((b * a.routes + k) * a.params + row) * a.groups + g) * N + n;
        grad_C[size(cell)] += dy * after;
        grad_B[size(cell)] += dh * dt * x;
        dx += dh * B;
        carry[size(n)] = decayed(decay, dh);
        if (decay == 0.0) continue;
        grad_A[size(kd * N + n)] += dh * before * decay * dt;
        ddt += dh * before * decay * A;
      }
      grad_u[size(p)] += dx * dt + (a.D.data != nullptr ? dy * get<S>(a.D, k, d) : 0.0);
      grad_D[size(kd)] += dy * x;
      double grad_raw = ddt + dx * x;
      if (a.delta_softplus && !(raw > 20.0)) grad_raw *= sigmoid(raw);
      grad_delta[size(row)] += grad_raw;
      grad_bias[size(kd)] += grad_raw;
    }
    if (a.initial_state.data != nullptr) {
      for (Index n = 0; n < N; ++n) write(at<S>(grads.grad_initial_state, s, k, d, n), carry[size(n)]);
    }
  }
};

template <class F>
void with_types(DType type, F&& f) {
#define MAMBASDK_REFERENCE(id, name, code, bits, block, bytes, stored, array, use, T) \
  if constexpr (!std::is_void_v<T>) {                                                 \
    using Element = std::conditional_t<std::is_void_v<T>, float, T>;                  \
    using State = std::conditional_t<std::is_same_v<T, double>, double, float>;       \
    if (type == dtype::id) return f(Element{}, State{});                              \
  }
  MAMBASDK_DTYPES(MAMBASDK_REFERENCE)
#undef MAMBASDK_REFERENCE
  refuse_dtype(type, "selective_scan's reference");
}

}  // namespace

void reference_forward(const SelectiveScanArgs& args) {
  with_types(args.type, [&]<class T, class S>(T, S) { Reference<T, S>{args}.forward(); });
}

void reference_backward(const SelectiveScanArgs& args, const SelectiveScanGrads& grads) {
  with_types(args.type, [&]<class T, class S>(T, S) { Reference<T, S>{args}.backward(grads); });
}

}  // namespace mambasdk::selective_scan
