// The state of one head of mlstm. For *.isa.cpp only.
//
// A state is C, turned, keys by values, and n behind it: one more column of values that are 1. What that column adds to
// products, a vector's work each, is done beside them.
#pragma once

#include "ops/mlstm/chunk.hpp"

namespace mambasdk::MAMBASDK_ISA {

// As tensors: (S,H,E,E) of v by k, (S,H,E) and (S,H).
struct StateViews {
  const StridedView &C, &n, &m;
};

// Zeros where it is absent; m is then `none`.
__attribute__((noinline)) inline double read_state(float* state, const Dims& d, const Problem& p, StateViews views,
                                                   Index s, Index head, double none) {
  for (Index i = 0; i < d.state(); i += kLanes) store(state + i, zero());
  if (views.C.data != nullptr) {
    const float* C = static_cast<const float*>(views.C.data) + s * views.C.stride[0] + head * views.C.stride[1];
    for (Index e = 0; e < p.head_dim; ++e)
      for (Index j = 0; j < p.head_dim; ++j) state[j * d.width + e] = C[e * views.C.stride[2] + j * views.C.stride[3]];
  }
  if (views.n.data != nullptr) {
    const float* n = static_cast<const float*>(views.n.data) + s * views.n.stride[0] + head * views.n.stride[1];
    for (Index j = 0; j < p.head_dim; ++j) state[d.width * d.width + j] = n[j * views.n.stride[2]];
  }
  if (views.m.data == nullptr) return none;
  const float* m = static_cast<const float*>(views.m.data);
  return static_cast<double>(m[s * views.m.stride[0] + head * views.m.stride[1]]);
}

__attribute__((noinline)) inline void write_state(const mlstm::State& out, const Dims& d, const Problem& p, Index s,
                                                  Index head, const float* state, double m) {
  const Index first = s * p.heads + head, width = p.head_dim;
  float* C = static_cast<float*>(out.C);
  float* n = static_cast<float*>(out.n);
  if (out.m != nullptr) static_cast<float*>(out.m)[first] = static_cast<float>(m);
  for (Index j = 0; j < width && n != nullptr; ++j) n[first * width + j] = state[d.width * d.width + j];
  for (Index e = 0; e < width && C != nullptr; ++e)
    for (Index j = 0; j < width; ++j) C[(first * width + e) * width + j] = state[j * d.width + e];
}

}  // namespace mambasdk::MAMBASDK_ISA
