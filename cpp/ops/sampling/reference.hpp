// The scalar kernels of grid_sample, deformable_sample and its derivative: double accumulation, every dtype.
#pragma once

#include "core/op.hpp"
#include "ops/sampling/sampling_args.hpp"

namespace mambasdk::sampling {

void reference_grid(const Tensor& x, const Tensor& grid, const Rule& rule, const Tensor& y);
// a: the window; its pointers and strides are not read.
void reference_deformable(const Tensor& x, const Tensor& offset_mask, const DeformableArgs& a, const Tensor& y);
void reference_deformable_backward(const Tensor& grad_y, const Tensor& x, const Tensor& offset_mask,
                                   const DeformableArgs& a, const Tensor& grad_x, const Tensor& grad_offset_mask);

}  // namespace mambasdk::sampling
