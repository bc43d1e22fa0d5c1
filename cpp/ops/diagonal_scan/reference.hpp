// The scalar kernels of diagonal_scan: double sums, real and complex, every dtype of the signature.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.hpp"

namespace mambasdk::diagonal_scan {

// Absent tensors have data == nullptr. offsets: of packed sequences, else empty.
void reference_forward(const Tensor& b, const Tensor& a, const Tensor& initial_state, bool reverse,
                       const std::vector<std::int32_t>& offsets, const Tensor& x, const Tensor& final_state);
void reference_backward(const Tensor& grad_x, const Tensor& grad_final_state, const Tensor& a, const Tensor& x,
                        const Tensor& initial_state, bool reverse, const std::vector<std::int32_t>& offsets,
                        const Tensor& grad_b, const Tensor& grad_a, const Tensor& grad_initial_state);

}  // namespace mambasdk::diagonal_scan
