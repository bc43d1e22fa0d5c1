// The recurrence of ssd step by step, in double: S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T, y_t = S_t C_t + D x_t.
#include <cmath>
#include <vector>

#include "core/element.hpp"
#include "ops/ssd/call.hpp"

namespace mambasdk::ssd {

namespace {

using Row = std::vector<double>;

double get(const Tensor& t, std::int64_t i, std::int64_t j = 0, std::int64_t k = 0, std::int64_t l = 0) {
  const std::int64_t index[4] = {i, j, k, l};
  std::int64_t offset = 0;
  for (int d = 0; d < t.ndim; ++d) offset += index[d] * t.stride(d);
  return load_element(t.data, t.dtype, offset);
}

void put(const Tensor& t, double value, std::int64_t i, std::int64_t j = 0, std::int64_t k = 0, std::int64_t l = 0) {
  const std::int64_t index[4] = {i, j, k, l};
  std::int64_t offset = 0;
  for (int d = 0; d < t.ndim; ++d) offset += index[d] * t.stride(d);
  store_element(t.data, t.dtype, offset, value);
}

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

// One head of one sequence, step by step.
struct Scan {
  const Call& call;
  const SsdSequence& sequence;
  const std::int32_t* run_start;  // of this sequence's batch, or null
  std::int64_t index, head;       // which sequence, which head

  [[nodiscard]] std::int64_t time(std::int64_t i) const {
    return call.reverse ? sequence.begin + sequence.length - 1 - i : sequence.begin + i;
  }
  [[nodiscard]] std::int64_t group() const { return head / (call.heads / call.groups); }
  [[nodiscard]] bool resets(std::int64_t i) const { return run_start != nullptr && i > 0 && run_start[i] == i; }
  [[nodiscard]] double raw_dt(std::int64_t i) const {
    const double bias = call.has_dt_bias ? get(call.dt_bias, head) : 0.0;
    return get(call.dt, sequence.batch, time(i), head) + bias;
  }
  [[nodiscard]] double unlimited_dt(std::int64_t i) const {
    const double raw = raw_dt(i);
    return !call.dt_softplus || raw > 20.0 ? raw : std::log1p(std::exp(raw));
  }
  [[nodiscard]] double dt(std::int64_t i) const {
    const double value = unlimited_dt(i);
    return value < call.dt_min ? call.dt_min : value > call.dt_max ? call.dt_max : value;
  }
  [[nodiscard]] double dt_slope(std::int64_t i) const {  // d dt / d raw_dt
    const double value = unlimited_dt(i), raw = raw_dt(i);
    if (value < call.dt_min || value > call.dt_max) return 0.0;
    return !call.dt_softplus || raw > 20.0 ? 1.0 : sigmoid(raw);
  }
  [[nodiscard]] double skip(std::int64_t p) const {
    return call.has_D ? get(call.D, head, call.D.size(1) == 1 ? 0 : p) : 0.0;
  }

  [[nodiscard]] Row initial_state() const {  // (P,N)
    Row state(static_cast<std::size_t>(call.head_dim * call.state), 0.0);
    if (call.has_initial_state) {
      std::size_t at = 0;
      for (std::int64_t p = 0; p < call.head_dim; ++p)
        for (std::int64_t n = 0; n < call.state; ++n) state[at++] = get(call.initial_state, index, head, p, n);
    }
    return state;
  }

  void step(std::int64_t i, Row& state) const {
    const double delta = dt(i), decay = resets(i) ? 0.0 : std::exp(delta * get(call.A, head));
    std::size_t at = 0;
    for (std::int64_t p = 0; p < call.head_dim; ++p) {
      const double u = get(call.x, sequence.batch, time(i), head, p) * (call.dt_on_x ? delta : 1.0);
      for (std::int64_t n = 0; n < call.state; ++n, ++at)
        state[at] = (decay == 0.0 ? 0.0 : decay * state[at]) + u * get(call.B, sequence.batch, time(i), group(), n);
    }
  }

  // y before the gate
  [[nodiscard]] double read(std::int64_t i, std::int64_t p, const Row& state) const {
    double y = call.has_D ? skip(p) * get(call.x, sequence.batch, time(i), head, p) : 0.0;
    for (std::int64_t n = 0; n < call.state; ++n)
      y += state[static_cast<std::size_t>(p * call.state + n)] * get(call.C, sequence.batch, time(i), group(), n);
    return y;
  }
};

template <class F>  // f(const Scan&)
void for_each_scan(const Call& call, F&& f) {
  const std::vector<SsdSequence> sequences = sequences_of(call);
  const std::vector<std::int32_t> starts = run_starts_of(call);
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const std::int32_t* run = starts.empty() ? nullptr : starts.data() + sequences[s].batch * call.length;
    for (std::int64_t h = 0; h < call.heads; ++h) f(Scan{call, sequences[s], run, static_cast<std::int64_t>(s), h});
  }
}

void put_state(const Tensor& t, const Scan& scan, const Row& state) {
  std::size_t at = 0;
  for (std::int64_t p = 0; p < scan.call.head_dim; ++p)
    for (std::int64_t n = 0; n < scan.call.state; ++n) put(t, state[at++], scan.index, scan.head, p, n);
}

void put_chunk_state(const Tensor& t, const Scan& scan, std::int64_t chunk, const Row& state) {  // (chunks,H,N,P)
  std::size_t at = 0;
  for (std::int64_t p = 0; p < scan.call.head_dim; ++p)
    for (std::int64_t n = 0; n < scan.call.state; ++n)
      put(t, state[at++], scan.sequence.first_chunk + chunk, scan.head, n, p);
}

// Sums over heads or over time, kept in double until the end.
struct Sums {
  Row A, dt_bias, D, B, C;
};

void backward_scan(const Scan& scan, const Tensor& grad_y, const Tensor& grad_final_state, const Gradients& out,
                   Sums& sums) {
  const Call& call = scan.call;
  const std::int64_t batch = scan.sequence.batch, h = scan.head, g = scan.group(), N = call.state, P = call.head_dim;
  std::vector<Row> states{scan.initial_state()};
  for (std::int64_t i = 0; i < scan.sequence.length; ++i) {
    states.push_back(states.back());
    scan.step(i, states.back());
  }
  Row grad(static_cast<std::size_t>(P * N), 0.0);  // of the state after step i
  if (grad_final_state.data != nullptr)
    for (std::int64_t p = 0; p < P; ++p)
      for (std::int64_t n = 0; n < N; ++n)
        grad[static_cast<std::size_t>(p * N + n)] = get(grad_final_state, scan.index, h, p, n);
  for (std::int64_t i = scan.sequence.length - 1; i >= 0; --i) {
    const std::int64_t t = scan.time(i);
    const Row& before = states[static_cast<std::size_t>(i)];
    const Row& after = states[static_cast<std::size_t>(i + 1)];
    const double delta = scan.dt(i), source = call.dt_on_x ? delta : 1.0;
    const double decay = scan.resets(i) ? 0.0 : std::exp(delta * get(call.A, h));
    double grad_source = 0.0, grad_log_decay = 0.0;
    for (std::int64_t p = 0; p < P; ++p) {
      const double x = get(call.x, batch, t, h, p);
      double gy = get(grad_y, batch, t, h, p);
      if (call.has_z) {
        const double z = get(call.z, batch, t, h, p), gate = sigmoid(z);
        put(out.z, gy * scan.read(i, p, after) * gate * (1.0 + z * (1.0 - gate)), batch, t, h, p);
        gy *= z * gate;
      }
      double grad_u = 0.0;
      for (std::int64_t n = 0; n < N; ++n) {
        const auto at = static_cast<std::size_t>(p * N + n);
        const auto bc = static_cast<std::size_t>(((batch * call.length + t) * call.groups + g) * N + n);
        grad[at] += gy * get(call.C, batch, t, g, n);
        sums.C[bc] += gy * after[at];
        sums.B[bc] += grad[at] * x * source;
        grad_u += grad[at] * get(call.B, batch, t, g, n);
        if (decay != 0.0) grad_log_decay += grad[at] * before[at] * decay;
        grad[at] = decay == 0.0 ? 0.0 : grad[at] * decay;
      }
      grad_source += grad_u * x;
      put(out.x, grad_u * source + (call.has_D ? gy * scan.skip(p) : 0.0), batch, t, h, p);
      if (call.has_D) {
        const std::int64_t width = call.D.size(1);
        sums.D[static_cast<std::size_t>(h * width + (width == 1 ? 0 : p))] += gy * x;
      }
    }
    // A decay of 0 has no slope, even where A or delta is infinite.
    const bool decays = grad_log_decay != 0.0;
    if (decays) sums.A[static_cast<std::size_t>(h)] += grad_log_decay * delta;
    const double grad_delta = (decays ? grad_log_decay * get(call.A, h) : 0.0) + (call.dt_on_x ? grad_source : 0.0);
    put(out.dt, grad_delta * scan.dt_slope(i), batch, t, h);
    sums.dt_bias[static_cast<std::size_t>(h)] += grad_delta * scan.dt_slope(i);
  }
  if (out.initial_state.data != nullptr) put_state(out.initial_state, scan, grad);
}

void put_all(const Tensor& t, const Row& values) {  // contiguous
  for (std::size_t i = 0; i < values.size(); ++i)
    store_element(t.data, t.dtype, static_cast<std::int64_t>(i), values[i]);
}

}  // namespace

void reference_forward(const Call& call, const Tensor& y, const Tensor& final_state, const Tensor& chunk_states) {
  const bool save = chunk_states.data != nullptr && chunk_states.numel() > 0;
  for (std::int64_t i = chunk_count(sequences_of(call)); save && i < chunk_states.size(0); ++i)
    for (std::int64_t e = 0; e < chunk_states.stride(0); ++e)
      store_element(chunk_states.data, chunk_states.dtype, i * chunk_states.stride(0) + e, 0.0);
  for_each_scan(call, [&](const Scan& scan) {
    Row state = scan.initial_state();
    for (std::int64_t i = 0; i < scan.sequence.length; ++i) {
      if (save && i % kSsdChunk == 0) put_chunk_state(chunk_states, scan, i / kSsdChunk, state);
      scan.step(i, state);
      for (std::int64_t p = 0; p < call.head_dim; ++p) {
        double value = scan.read(i, p, state);
        if (call.has_z) {
          const double z = get(call.z, scan.sequence.batch, scan.time(i), scan.head, p);
          value *= z * sigmoid(z);
        }
        put(y, value, scan.sequence.batch, scan.time(i), scan.head, p);
      }
    }
    if (final_state.data != nullptr) put_state(final_state, scan, state);
  });
}

void reference_backward(const Call& call, const Tensor& grad_y, const Tensor& grad_final_state, const Gradients& out) {
  const auto heads = static_cast<std::size_t>(call.heads);
  const auto shared = static_cast<std::size_t>(call.batch * call.length * call.groups * call.state);
  Sums sums{Row(heads), Row(heads), Row(call.has_D ? heads * static_cast<std::size_t>(call.D.size(1)) : 0), Row(shared),
            Row(shared)};
  for_each_scan(call, [&](const Scan& scan) { backward_scan(scan, grad_y, grad_final_state, out, sums); });
  put_all(out.A, sums.A);
  put_all(out.B, sums.B);
  put_all(out.C, sums.C);
  if (call.has_D) put_all(out.D, sums.D);
  if (call.has_dt_bias) put_all(out.dt_bias, sums.dt_bias);
}

}  // namespace mambasdk::ssd
