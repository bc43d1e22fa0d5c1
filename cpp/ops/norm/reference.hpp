// The scalar kernels of rms_norm and layer_norm: double accumulation, every dtype.
#pragma once

#include "core/op.hpp"

namespace mambasdk::norm {

struct Call {
  std::int64_t rows, channels, group_size;
  double eps;
  bool subtract_mean;
  bool norm_before_gate;
  bool sigmoid_gate;
  const Tensor* x;
  const Tensor* weight;
  const Tensor* bias;
  const Tensor* residual;  // backward: residual_out
  const Tensor* z;
};

struct Gradients {
  const Tensor& grad_y;
  const Tensor* grad_residual_out;
  // Outputs; null data where not wanted.
  const Tensor& grad_x;
  const Tensor& grad_weight;
  const Tensor& grad_bias;
  const Tensor& grad_residual;
  const Tensor& grad_z;
};

void reference_forward(const Call& call, const Tensor& y, const Tensor& residual_out);
void reference_backward(const Call& call, const Gradients& gradients);

}  // namespace mambasdk::norm
