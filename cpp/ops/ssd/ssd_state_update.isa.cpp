// ssd_state_update (contract: ssd.hpp): one pass over the state, which is all the memory there is to move.
#include "core/simd_types.hpp"
#include "ops/ssd/steps.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr std::int64_t kBlock = 256;  // states per block of B and C
constexpr int kRows = 4;              // rows of the state per pass over B and C
template <class S>
alignas(64) constexpr S kForgotten[kBlock] = {};

// new_state (rows,n) from state, and y[r] += new_state[r] . C
template <int R, class S>
MAMBASDK_SIMD void update_rows(const S* from, std::int64_t from_row, S* to, std::int64_t to_row, float decay,
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

// S: of the state.
template <class T, class S>
void update_head(const SsdUpdate& call, std::int64_t batch, std::int64_t h) {
  const SsdProblem& p = call.problem;
  const std::int64_t slot = call.slots ? call.slots[batch] : batch;
  if (slot < 0) {
    T* y = static_cast<T*>(call.y) + (batch * p.heads + h) * p.head_dim;
    for (std::int64_t i = 0; i < p.head_dim; ++i) y[i] = from_float<T>::cast(0.0f);
    return;
  }
  const std::int64_t g = h / (p.heads / p.groups), N = p.state;
  const T* x = static_cast<const T*>(p.x.data) + batch * p.x.stride[0] + h * p.x.stride[2];
  const T* B = static_cast<const T*>(p.B.data) + batch * p.B.stride[0] + g * p.B.stride[2];
  const T* C = static_cast<const T*>(p.C.data) + batch * p.C.stride[0] + g * p.C.stride[2];
  const std::int64_t z = batch * p.z.stride[0] + h * p.z.stride[2];
  const auto gate = [&](std::int64_t i) {
    const std::int64_t at = z + i * p.z.stride[3];
    return p.wide_z ? static_cast<const float*>(p.z.data)[at] : to_float(static_cast<const T*>(p.z.data)[at]);
  };
  const std::int64_t* stride = p.initial_state.stride;
  const S* from = static_cast<const S*>(p.initial_state.data) + slot * stride[0] + h * stride[1];
  S* to = static_cast<S*>(call.new_state) + (slot * p.heads + h) * p.head_dim * N;
  T* y = static_cast<T*>(call.y) + (batch * p.heads + h) * p.head_dim;

  const std::int64_t dt_at = batch * p.dt.stride[0] + h * p.dt.stride[2];
  const float raw =
      p.wide_dt ? static_cast<const float*>(p.dt.data)[dt_at] : to_float(static_cast<const T*>(p.dt.data)[dt_at]);
  vf dt = set1(raw + (p.dt_bias ? p.dt_bias[h] : 0.0f));
  if (p.dt_softplus) dt = softplus(dt);
  dt = min(set1(p.dt_max), max(set1(p.dt_min), dt));
  const float decay = exp(dt * set1(p.A[h]))[0];
  // As exp(dt A) is in double precision: then even infinity or NaN in the state counts for nothing.
  const bool forgets = static_cast<double>(dt[0]) * static_cast<double>(p.A[h]) < -745.2;
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
      alignas(64) S gathered[kRows * kBlock];
      const S* rows_from = from + i * stride[2] + n0 * stride[3];
      std::int64_t from_row = stride[2];
      if (forgets) {
        rows_from = kForgotten<S>;
        from_row = 0;
      } else if (stride[3] != 1) {
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t j = 0; j < n; ++j) gathered[r * kBlock + j] = rows_from[r * stride[2] + j * stride[3]];
        rows_from = gathered;
        from_row = kBlock;
      }
      S* rows_to = to + i * N + n0;
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
      if (p.z.data) value *= silu(set1(gate(at)))[0];
      y[at] = from_float<T>::cast(value);
    }
  }
}

}  // namespace

void ssd_state_update(const SsdUpdate& call, const Parallel& parallel) {
  const SsdProblem& p = call.problem;
  MAMBASDK_SHARE_AVX512(p.dtype == dtype::bf16 || call.state_dtype == dtype::bf16, ssd_state_update(call, parallel));
  const std::int64_t grain = 1 + 16384 / (p.head_dim * p.state + 1);
  void (*update)(const SsdUpdate&, std::int64_t, std::int64_t) = nullptr;
  with_type(p.dtype, [&]<class T>(T) {
    with_type(call.state_dtype, [&]<class S>(S) {
      if constexpr (is_own<T, S>) update = &update_head<T, S>;
    });
  });
  parallel(p.sequence_count * p.heads, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) update(call, t / p.heads, t % p.heads);
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
