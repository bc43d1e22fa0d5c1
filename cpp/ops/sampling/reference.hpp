// The scalar kernels of grid_sample and deformable_sample: double accumulation, every dtype.
#pragma once

#include "core/op.hpp"
#include "ops/sampling/sampling_args.hpp"

namespace mambasdk::sampling {

void reference_grid(const Tensor& x, const Tensor& grid, const Rule& rule, const Tensor& y);
// a: the window; its pointers and strides are not read.
void reference_deformable(const Tensor& x, const Tensor& offset_mask, const DeformableArgs& a, const Tensor& y);

}  // namespace mambasdk::sampling
