// mlstm step by step, the way taken where a value is not finite. Matrix products multiply what a step does not see by a
// weight of 0, and 0 times infinity or NaN is NaN; here nothing is multiplied that does not count. For *.isa.cpp only.
//
// Columns beyond E are not finite only where those before them are not, so that sums may run over them.
#pragma once

#include "ops/mlstm/gates.hpp"

namespace mambasdk::MAMBASDK_ISA {

// state = keep state + take k v^T, and n likewise; rows k, already scaled, and v with zeros beyond E.
__attribute__((noinline)) inline void step_state(float* state, const Dims& d, Index head_dim, float keep, float take,
                                                 const float* k, const float* v) {
  for (Index j = 0; j < head_dim; ++j) {
    float* row = state + j * d.width;
    for (Index e = 0; e < d.width; e += kLanes) store(row + e, load(row + e) * keep + load(v + e) * (take * k[j]));
  }
  float* n = state + d.width * d.width;
  for (Index j = 0; j < d.width; j += kLanes) store(n + j, load(n + j) * keep + load(k + j) * take);
}

// out = q C, (width); the normaliser n q.
__attribute__((noinline)) inline float read_step(float* out, const Dims& d, Index head_dim, const float* state,
                                                 const float* q) {
  for (Index e = 0; e < d.width; e += kLanes) store(out + e, zero());
  for (Index j = 0; j < head_dim; ++j) {
    const float* row = state + j * d.width;
    for (Index e = 0; e < d.width; e += kLanes) store(out + e, load(out + e) + load(row + e) * q[j]);
  }
  return dot(state + d.width * d.width, q, d.width);
}

}  // namespace mambasdk::MAMBASDK_ISA
