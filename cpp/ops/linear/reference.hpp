// The scalar kernels of linear and embedding: double accumulation, every dtype.
#pragma once

#include "core/op.hpp"

namespace mambasdk::linear {

void reference_linear(const Tensor& x, const Tensor& weight, const Tensor* bias, bool rounds_x, const Tensor& y);
// indices: flat and checked.
void reference_embedding(const std::int32_t* indices, std::int64_t count, const Tensor& weight, const Tensor& y);

}  // namespace mambasdk::linear
