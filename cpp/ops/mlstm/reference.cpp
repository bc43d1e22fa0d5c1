// The recurrence of mlstm step by step, in double.
//
// The derivative is that of h as a function of the gates' sums, in which m, the running maximum, is a free choice of
// scale: it cancels but for the epsilon beside the normaliser, and but for a final state, which is in units of e^m.
// What the derivative by m is, for those two, goes to the gate that the maximum was.
#include <cmath>
#include <vector>

#include "core/element.hpp"
#include "ops/mlstm/mlstm_args.hpp"

namespace mambasdk::mlstm {
namespace {

using Index = std::int64_t;
using Row = std::vector<double>;

double log_sigmoid(double x) {
  return x < 0.0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x));
}
double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

struct Memory {
  Row C, n;  // (E,E) of v by k; (E)
  double m;
};

// One step's weights of the state before it and of its own k and v, and m after it.
struct Gate {
  double keep, take, m;
  bool kept;  // m is the decayed one
};

// One head of one sequence.
struct Head {
  const Problem& p;
  Index s, head;

  [[nodiscard]] std::size_t width() const { return static_cast<std::size_t>(p.head_dim); }
  [[nodiscard]] Index at(const StridedView& view, Index t) const {
    return p.sequences[s].batch * view.stride[0] + (p.sequences[s].begin + t) * view.stride[1] + head * view.stride[2];
  }
  [[nodiscard]] Row row(const StridedView& view, Index t, double scale = 1.0) const {
    Row values(width());
    for (std::size_t e = 0; e < values.size(); ++e)
      values[e] = scale * load_element(view.data, p.type, at(view, t) + static_cast<Index>(e) * view.stride[3]);
    return values;
  }
  [[nodiscard]] double gate(const StridedView& view, Index t) const {
    return load_element(view.data, p.gate_type, at(view, t));
  }
  // Where the step stands in a contiguous (B,L,H).
  [[nodiscard]] Index place(Index t) const {
    return (p.sequences[s].batch * p.length + p.sequences[s].begin + t) * p.heads + head;
  }
  [[nodiscard]] double key_scale() const { return 1.0 / std::sqrt(static_cast<double>(p.head_dim)); }

  // A state given as tensors; zero, and `m`, where they are absent.
  [[nodiscard]] Memory memory(const StridedView& C, const StridedView& n, const StridedView& m, double none) const {
    Memory state{Row(width() * width(), 0.0), Row(width(), 0.0), none};
    if (m.data != nullptr) state.m = load_element(m.data, p.state_type, s * m.stride[0] + head * m.stride[1]);
    for (std::size_t e = 0; e < width(); ++e) {
      const auto i = static_cast<Index>(e);
      if (n.data != nullptr)
        state.n[e] = load_element(n.data, p.state_type, s * n.stride[0] + head * n.stride[1] + i * n.stride[2]);
      for (std::size_t j = 0; j < width() && C.data != nullptr; ++j)
        state.C[e * width() + j] =
            load_element(C.data, p.state_type,
                         s * C.stride[0] + head * C.stride[1] + i * C.stride[2] + static_cast<Index>(j) * C.stride[3]);
    }
    return state;
  }
  void put(const State& out_state, const Memory& state) const {
    const Index first = s * p.heads + head;
    if (out_state.m != nullptr) store_element(out_state.m, p.state_type, first, state.m);
    for (std::size_t i = 0; i < state.n.size() && out_state.n != nullptr; ++i)
      store_element(out_state.n, p.state_type, first * p.head_dim + static_cast<Index>(i), state.n[i]);
    for (std::size_t i = 0; i < state.C.size() && out_state.C != nullptr; ++i)
      store_element(out_state.C, p.state_type, first * p.head_dim * p.head_dim + static_cast<Index>(i), state.C[i]);
  }

  [[nodiscard]] Gate gate_of(Index t, double m) const {
    const double decayed = log_sigmoid(gate(p.fgate, t)) + m, input = gate(p.igate, t);
    const bool kept = decayed >= input;
    const double now = kept ? decayed : input;
    return {std::exp(decayed - now), std::exp(input - now), now, kept};
  }
  void step(Index t, Memory& state) const {
    const Gate g = gate_of(t, state.m);
    const Row k = row(p.k, t, key_scale()), v = row(p.v, t);
    for (std::size_t e = 0; e < width(); ++e) {
      state.n[e] = g.keep * state.n[e] + g.take * k[e];
      for (std::size_t j = 0; j < width(); ++j)
        state.C[e * width() + j] = g.keep * state.C[e * width() + j] + g.take * v[e] * k[j];
    }
    state.m = g.m;
  }
};

struct Read {
  Row h;
  double normaliser, divisor;  // n q; max(|n q|, e^-m) + epsilon, where a NaN counts
  bool normal;                 // |n q| is the larger
};
Read read(const Memory& state, const Row& q) {
  Read out{Row(q.size(), 0.0), 0.0, 0.0, false};
  for (std::size_t j = 0; j < q.size(); ++j) out.normaliser += state.n[j] * q[j];
  const double size = std::fabs(out.normaliser), least = std::exp(-state.m);
  out.normal = !(size <= least);
  out.divisor = (out.normal ? size : least) + kEpsilon;
  for (std::size_t e = 0; e < q.size(); ++e) {
    for (std::size_t j = 0; j < q.size(); ++j) out.h[e] += state.C[e * q.size() + j] * q[j];
    out.h[e] /= out.divisor;
  }
  return out;
}

double dot(const Row& a, const Row& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

void put_row(void* out, DType type, Index at, const Row& values, double scale = 1.0) {
  for (std::size_t e = 0; out != nullptr && e < values.size(); ++e)
    store_element(out, type, at + static_cast<Index>(e), values[e] * scale);
}

// What a step back takes along: the gradient of the state after it, and that by m, all else being as it is.
struct Back {
  Memory grad;

  void step(const Backward& call, const Head& head, Index t, const Memory& before, const Memory& after) {
    const Problem& p = call.problem;
    const std::size_t width = head.width();
    const Row q = head.row(p.q, t), k = head.row(p.k, t, head.key_scale()), v = head.row(p.v, t);
    const Row grad_h = head.row(call.grad_h, t);
    const Gate g = head.gate_of(t, before.m);
    const Read y = read(after, q);
    const double grad_divisor = -dot(grad_h, y.h) / y.divisor;
    const double grad_normaliser = !y.normal ? 0.0 : y.normaliser < 0.0 ? -grad_divisor : grad_divisor;
    grad.m += grad_divisor * kEpsilon;
    Row grad_q(width, 0.0), grad_k(width, 0.0), grad_v(width, 0.0);
    double taken = 0.0, kept = 0.0;
    for (std::size_t j = 0; j < width; ++j) {
      grad_q[j] += grad_normaliser * after.n[j];
      grad.n[j] += grad_normaliser * q[j];
      grad_k[j] += g.take * grad.n[j];
      taken += g.take * grad.n[j] * k[j];
      kept += g.keep * grad.n[j] * before.n[j];
      grad.n[j] *= g.keep;
    }
    for (std::size_t e = 0; e < width; ++e) {
      const double grad_y = grad_h[e] / y.divisor;
      for (std::size_t j = 0; j < width; ++j) {
        double& slope = grad.C[e * width + j];
        grad_q[j] += grad_y * after.C[e * width + j];
        slope += grad_y * q[j];
        grad_v[e] += g.take * slope * k[j];
        grad_k[j] += g.take * slope * v[e];
        taken += g.take * slope * v[e] * k[j];
        kept += g.keep * slope * before.C[e * width + j];
        slope *= g.keep;
      }
    }
    if (g.kept) {
      kept += grad.m;
    } else {
      taken += grad.m;
      grad.m = 0.0;
    }
    const Index gate_at = head.place(t), at = gate_at * p.head_dim;
    put_row(call.q, p.type, at, grad_q);
    put_row(call.k, p.type, at, grad_k, head.key_scale());
    put_row(call.v, p.type, at, grad_v);
    if (call.igate != nullptr) store_element(call.igate, p.gate_type, gate_at, taken);
    if (call.fgate != nullptr) store_element(call.fgate, p.gate_type, gate_at, kept * sigmoid(-head.gate(p.fgate, t)));
  }
};

template <class F>
void for_each_head(const Problem& p, F&& f) {
  for (Index s = 0; s < p.sequence_count; ++s)
    for (Index h = 0; h < p.heads; ++h) f(Head{p, s, h});
}

}  // namespace

void reference_forward(const Forward& call) {
  const Problem& p = call.problem;
  for_each_head(p, [&](const Head& head) {
    Memory state = head.memory(p.C, p.n, p.m, kNoMaximum);
    for (Index t = 0; t < p.sequences[head.s].length; ++t) {
      head.step(t, state);
      put_row(call.h, p.type, head.place(t) * p.head_dim, read(state, head.row(p.q, t)).h);
    }
    head.put(call.final, state);
  });
}

void reference_backward(const Backward& call) {
  const Problem& p = call.problem;
  for_each_head(p, [&](const Head& head) {
    std::vector<Memory> states{head.memory(p.C, p.n, p.m, kNoMaximum)};
    for (Index t = 0; t < p.sequences[head.s].length; ++t) {
      states.push_back(states.back());
      head.step(t, states.back());
    }
    Back back{head.memory(call.grad_C, call.grad_n, call.grad_m, 0.0)};
    const auto in_units = [&](const Memory& state) { return dot(state.C, back.grad.C) + dot(state.n, back.grad.n); };
    back.grad.m -= in_units(states.back());
    for (Index t = p.sequences[head.s].length - 1; t >= 0; --t) {
      const auto i = static_cast<std::size_t>(t);
      back.step(call, head, t, states[i], states[i + 1]);
    }
    back.grad.m += in_units(states.front());
    head.put(call.initial, back.grad);
  });
}

}  // namespace mambasdk::mlstm
