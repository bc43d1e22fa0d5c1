// The scalar kernels of causal_conv1d: double accumulation, every dtype.
#pragma once

#include "core/op.hpp"

namespace mambasdk::causal_conv1d {

// One call in either of its forms: a whole sequence, or one step of the update.
struct Call {
  std::int64_t batch, length, channels, sequences;
  int width;
  bool silu;
  const Tensor* x;  // (B, L, D), or (B, D) of the update
  const Tensor* weight;
  const Tensor* bias;
  const Tensor* initial_state;
  const Tensor* cu_seqlens;
};

struct Span {
  std::int64_t batch, first, last;  // time steps [first, last) of batch row `batch`
};
Span sequence_span(const Call& call, std::int64_t sequence);

void reference_forward(const Call& call, const Tensor& y);
// grad_final_state may be null, an output with null data is not wanted.
void reference_backward(const Call& call, const Tensor& grad_y, const Tensor* grad_final_state, const Tensor& grad_x,
                        const Tensor& grad_weight, const Tensor& grad_bias, const Tensor& grad_initial_state);

}  // namespace mambasdk::causal_conv1d
