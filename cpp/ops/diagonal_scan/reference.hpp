// The scalar kernels of diagonal_scan: double sums, real and complex, every dtype of the signature.
#pragma once

#include "core/tensor.hpp"

namespace mambasdk::diagonal_scan_family {

// Absent tensors have data == nullptr.
void reference_forward(const Tensor& b, const Tensor& a, const Tensor& initial_state, bool reverse, const Tensor& x,
                       const Tensor& final_state);
void reference_backward(const Tensor& grad_x, const Tensor& grad_final_state, const Tensor& a, const Tensor& x,
                        const Tensor& initial_state, bool reverse, const Tensor& grad_b, const Tensor& grad_a,
                        const Tensor& grad_initial_state);

}  // namespace mambasdk::diagonal_scan_family
