// The functions of table.hpp and their gradients over whole vectors of float32.
#include "core/simd_types.hpp"
#include "ops/elementwise/elementwise.hpp"
#if !MAMBASDK_SHARES_AVX512
#include "ops/elementwise/functions_simd.hpp"
#endif

namespace mambasdk::MAMBASDK_ISA {

using namespace elementwise;

#if MAMBASDK_SHARES_AVX512
Piece elementwise_piece(Function function, bool gradient) {
  return ::mambasdk::avx512::elementwise_piece(function, gradient);
}
#else
namespace {

// Vectors are stored as what may alias anything: pointers and parameters are read once, before the loop.
template <class F>
void values(const float* const (&in)[kMostInputs], const float (&parameters)[2], float* const (&out)[kMostOutputs],
            std::int64_t n) {
  const float *first = in[0], *second = in[1], *third = in[2];
  const float p = parameters[0], q = parameters[1];
  float* to = out[0];
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const vf x = load(first + i), y = F::kTensors > 1 ? load(second + i) : zero();
    const vf z = F::kTensors > 2 ? load(third + i) : zero();
    store(to + i, F::value(x, y, z, p, q));
  }
}

template <class F>
void gradients(const float* const (&in)[kMostInputs], const float (&parameters)[2], float* const (&out)[kMostOutputs],
               std::int64_t n) {
  const float *grad = in[0], *first = in[1], *second = in[2], *third = in[3];
  const float p = parameters[0], q = parameters[1];
  float* const to[kMostOutputs] = {out[0], out[1], out[2]};
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const vf g = load(grad + i), x = load(first + i), y = F::kTensors > 1 ? load(second + i) : zero();
    const vf z = F::kTensors > 2 ? load(third + i) : zero();
    vf slopes[3];
    F::gradient(g, x, y, z, p, q, slopes);
    for (int k = 0; k < F::kTensors; ++k) store(to[k] + i, slopes[k]);
  }
}

}  // namespace

Piece elementwise_piece(Function function, bool gradient) {
  switch (function) {
#define MAMBASDK_ELEMENTWISE_CASE(name, ...) \
  case Function::name:                       \
    return gradient ? gradients<name##_function> : values<name##_function>;
    MAMBASDK_ELEMENTWISE(MAMBASDK_ELEMENTWISE_CASE, MAMBASDK_ELEMENTWISE_CASE, MAMBASDK_ELEMENTWISE_CASE)
#undef MAMBASDK_ELEMENTWISE_CASE
  }
  return nullptr;
}
#endif

}  // namespace mambasdk::MAMBASDK_ISA
