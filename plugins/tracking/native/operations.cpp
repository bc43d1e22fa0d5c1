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
void for_each_state(const TensorView& means, const TensorView& covariances, std::span<double> mean_out,
                    std::span<double> covariance_out, F&& f) {
  const std::vector<double> mean = dense(means);              // (N, 8)
  const std::vector<double> covariance = dense(covariances);  // (N, 8, 8)
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

void LinearAssignment::reference(const plugin::CallOf<LinearAssignment>& call) {
  const std::vector<double> cost = dense(call.input<"cost">());  // (R, C)
  const std::vector<std::int64_t> columns = assign(cost, static_cast<std::size_t>(call.dim<"R">()),
                                                   static_cast<std::size_t>(call.dim<"C">()), call.number<"limit">());
  std::copy(columns.begin(), columns.end(), call.output<"columns", std::int64_t>().begin());
}

void KalmanPredict::reference(const plugin::CallOf<KalmanPredict>& call) {
  for_each_state(call.input<"mean">(), call.input<"covariance">(), call.output<"predicted_mean", double>(),
                 call.output<"predicted_covariance", double>(),
                 [](KalmanState& state, std::size_t) { kalman_predict(state); });
}

void KalmanUpdate::reference(const plugin::CallOf<KalmanUpdate>& call) {
  const std::vector<double> measurements = dense(call.input<"measurement">());  // (N, 4)
  const auto update = [&](KalmanState& state, std::size_t n) {
    Vector4 z;
    std::copy_n(&measurements[n * 4], 4, z.begin());
    kalman_update(state, z);
  };
  for_each_state(call.input<"mean">(), call.input<"covariance">(), call.output<"updated_mean", double>(),
                 call.output<"updated_covariance", double>(), update);
}

}  // namespace mambasdk::tracking
