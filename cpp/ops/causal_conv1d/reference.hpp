// The scalar kernels of causal_conv1d: double accumulation, every dtype.
#pragma once

#include "ops/causal_conv1d/call.hpp"

namespace mambasdk::causal_conv1d {

void reference_forward(const Call& call, const Tensor& y);
// grad_final_state may be null, an output with null data is not wanted.
void reference_backward(const Call& call, const Tensor& grad_y, const Tensor* grad_final_state, const Tensor& grad_x,
                        const Tensor& grad_weight, const Tensor& grad_bias, const Tensor& grad_initial_state);

}  // namespace mambasdk::causal_conv1d
