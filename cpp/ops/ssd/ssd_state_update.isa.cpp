// ssd_state_update (contract: ssd.hpp): one pass over the state, which is all the memory there is to move.
#include "ops/ssd/steps.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr std::int64_t kBlock = 256;  // states per block of B and C
constexpr int kRows = 4;              // rows of the state per pass over B and C

// new_state (rows,n) from state, and y[r] += new_state[r] . C
template <int R>
MAMBASDK_SIMD void update_rows(const float* from, std::int64_t from_row, float* to, std::int64_t to_row, float decay,
                               const float* input, const float* b, const float* c, std::int64_t n, float* y) {
  vf sum[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sum[r] = zero();
  for (std::int64_t j = 0; j < n; j += kLanes) {
    const int width = static_cast<int>(min64(kLanes, n - j));
    const vf bv = load(b + j), cv = load(c + j);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const vf s = set1(decay) * load_n(from + r * from_row + j, width) + set1(input[r]) * bv;
      sum[r] += s * cv;
      store_n(to + r * to_row + j, s, width);
    }
  }
  for (int r = 0; r < R; ++r) y[r] += reduce_add(sum[r]);
}

template <class T>
void update_head(const SsdForward& call, std::int64_t batch, std::int64_t h) {
  const SsdProblem& p = call.problem;
  const std::int64_t g = h / (p.heads / p.groups), N = p.state;
  const T* x = static_cast<const T*>(p.x.data) + batch * p.x.stride[0] + h * p.x.stride[2];
  const T* B = static_cast<const T*>(p.B.data) + batch * p.B.stride[0] + g * p.B.stride[2];
  const T* C = static_cast<const T*>(p.C.data) + batch * p.C.stride[0] + g * p.C.stride[2];
  const T* z = static_cast<const T*>(p.z.data);
  if (z) z += batch * p.z.stride[0] + h * p.z.stride[2];
  const std::int64_t* stride = p.initial_state.stride;
  const float* from = static_cast<const float*>(p.initial_state.data) + batch * stride[0] + h * stride[1];
  float* to = call.final_state + (batch * p.heads + h) * p.head_dim * N;
  T* y = static_cast<T*>(call.y) + (batch * p.heads + h) * p.head_dim;

  const float raw = to_float(static_cast<const T*>(p.dt.data)[batch * p.dt.stride[0] + h * p.dt.stride[2]]);
  vf dt = set1(raw + (p.dt_bias ? p.dt_bias[h] : 0.0f));
  if (p.dt_softplus) dt = softplus(dt);
  dt = min(set1(p.dt_max), max(set1(p.dt_min), dt));
  const float decay = exp(dt * set1(p.A[h]))[0];
  const float source = p.dt_on_x ? dt[0] : 1.0f;

  alignas(64) float b[kBlock], c[kBlock];
  for (std::int64_t i = 0; i < p.head_dim; i += kRows) {
    const std::int64_t rows = min64(kRows, p.head_dim - i);
    float sum[kRows] = {}, input[kRows];
    for (std::int64_t r = 0; r < rows; ++r) input[r] = source * to_float(x[(i + r) * p.x.stride[3]]);
    for (std::int64_t n0 = 0; n0 < N; n0 += kBlock) {
      const std::int64_t n = min64(kBlock, N - n0);
      if (i == 0 || N > kBlock) {
        read_row(b, B + n0 * p.B.stride[3], p.B.stride[3], n, round_up(n, kLanes));
        read_row(c, C + n0 * p.C.stride[3], p.C.stride[3], n, round_up(n, kLanes));
      }
      alignas(64) float gathered[kRows * kBlock];
      const float* rows_from = from + i * stride[2] + n0 * stride[3];
      std::int64_t from_row = stride[2];
      if (stride[3] != 1) {
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t j = 0; j < n; ++j) gathered[r * kBlock + j] = rows_from[r * stride[2] + j * stride[3]];
        rows_from = gathered;
        from_row = kBlock;
      }
      float* rows_to = to + i * N + n0;
      if (rows == kRows) {
        update_rows<kRows>(rows_from, from_row, rows_to, N, decay, input, b, c, n, sum);
      } else {
        for (std::int64_t r = 0; r < rows; ++r)
          update_rows<1>(rows_from + r * from_row, from_row, rows_to + r * N, N, decay, input + r, b, c, n, sum + r);
      }
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t at = i + r;
      float value = sum[r];
      if (p.D) value += p.D[h * p.skip_width + (p.skip_width == 1 ? 0 : at)] * to_float(x[at * p.x.stride[3]]);
      if (z) value *= silu(set1(to_float(z[at * p.z.stride[3]])))[0];
      y[at] = from_float<T>::cast(value);
    }
  }
}

}  // namespace

void ssd_state_update(const SsdForward& call, const Parallel& parallel) {
  const SsdProblem& p = call.problem;
  const std::int64_t grain = 1 + 16384 / (p.head_dim * p.state + 1);
  parallel(p.sequence_count * p.heads, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      if (p.dtype == dtype::f32)
        update_head<float>(call, t / p.heads, t % p.heads);
      else if (p.dtype == dtype::bf16)
        update_head<bf16>(call, t / p.heads, t % p.heads);
      else
        update_head<f16>(call, t / p.heads, t % p.heads);
    }
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
