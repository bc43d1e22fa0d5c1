// core/simd.hpp behind ordinary functions.
#include "core/simd_check.hpp"

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

template <class T>
MAMBASDK_SIMD vf round_trip(vf x) {
  alignas(64) T stored[kLanes];
  store(static_cast<T*>(stored), x);
  return load(static_cast<const T*>(stored));
}

MAMBASDK_SIMD vf evaluate(SimdFunction function, vf x) {
  switch (function) {
    case SimdFunction::exp2:
      return exp2(x);
    case SimdFunction::exp:
      return exp(x);
    case SimdFunction::log:
      return log(x);
    case SimdFunction::log1p:
      return log1p(x);
    case SimdFunction::softplus:
      return softplus(x);
    case SimdFunction::sigmoid:
      return sigmoid(x);
    case SimdFunction::silu:
      return silu(x);
    case SimdFunction::round_bf16:
      return round_trip<bf16>(x);
    default:
      return round_trip<f16>(x);
  }
}

}  // namespace

void simd_evaluate(SimdFunction function, const float* x, float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const int count = n - i < kLanes ? static_cast<int>(n - i) : kLanes;
    store_n(y + i, evaluate(function, load_n(x + i, count)), count);
  }
}

float simd_sum(const float* x, std::int64_t n) {
  vf sum = zero();
  for (std::int64_t i = 0; i < n; i += kLanes) {
    sum = sum + load_n(x + i, n - i < kLanes ? static_cast<int>(n - i) : kLanes);
  }
  return reduce_add(sum);
}

}  // namespace mambasdk::MAMBASDK_ISA
