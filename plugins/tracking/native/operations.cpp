#include "operations.hpp"

namespace mambasdk::tracking {

namespace {

// The elements of a strided f64 input, row-major.
std::vector<double> dense(const TensorView& view) {
  const mambasdk_tensor& t = view.get();
  std::vector<double> out(view.size());
  std::vector<std::int64_t> index(static_cast<std::size_t>(t.ndim), 0);
  const auto* base = reinterpret_cast<const double*>(static_cast<const char*>(t.data) + t.byte_offset);
  for (std::size_t at = 0; at < out.size(); ++at) {
    std::int64_t offset = 0;
    std::int64_t row_major = 1;
    for (std::size_t d = index.size(); d-- > 0;) {
      offset += index[d] * (t.strides != nullptr ? t.strides[d] : row_major);
      row_major *= t.shape[d];
    }
    out[at] = base[offset];
    for (std::size_t d = index.size(); d-- > 0 && ++index[d] == t.shape[d];) index[d] = 0;
  }
  return out;
}

// Runs f(state, row) on each of the N states and writes the results.
template <class F>
void for_each_state(const plugin::OpCall& call, F&& f) {
  const std::vector<double> mean = dense(call.input(0));        // (N, 8)
  const std::vector<double> covariance = dense(call.input(1));  // (N, 8, 8)
  const auto mean_out = call.output<double>(0);
  const auto covariance_out = call.output<double>(1);
  for (std::size_t n = 0; n < mean.size() / 8; ++n) {
    KalmanState state;
    std::copy_n(&mean[n * 8], 8, state.mean.begin());
    std::copy_n(&covariance[n * 64], 64, state.covariance.begin());
    f(state, n);
    std::copy_n(state.mean.begin(), 8, &mean_out[n * 8]);
    std::copy_n(state.covariance.begin(), 64, &covariance_out[n * 64]);
  }
}

}  // namespace

void LinearAssignment::reference(const plugin::OpCall& call) {
  const auto shape = call.input(0).shape();
  const std::vector<double> cost = dense(call.input(0));  // (R, C)
  const std::vector<std::int64_t> columns =
      assign(cost, static_cast<std::size_t>(shape[0]), static_cast<std::size_t>(shape[1]), call.real(1));
  std::copy(columns.begin(), columns.end(), call.output<std::int64_t>(0).begin());
}

void KalmanPredict::reference(const plugin::OpCall& call) {
  for_each_state(call, [](KalmanState& state, std::size_t) { kalman_predict(state); });
}

void KalmanUpdate::reference(const plugin::OpCall& call) {
  const std::vector<double> measurements = dense(call.input(2));  // (N, 4)
  for_each_state(call, [&](KalmanState& state, std::size_t n) {
    Vector4 z;
    std::copy_n(&measurements[n * 4], 4, z.begin());
    kalman_update(state, z);
  });
}

}  // namespace mambasdk::tracking
