// A strided view of an array, as kernels take it. Safe to include from *.isa.cpp.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace mambasdk {

struct Tensor;

// Strides count elements. Shape and dtype are the kernel's knowledge; absent: data == nullptr.
struct StridedView {
  void* data = nullptr;
  std::int64_t stride[5] = {};
};

// A view of the tensor's memory: absent where there is none.
[[nodiscard]] StridedView strided_view(const Tensor& tensor);
// An argument of a call: absent for null, and present where a tensor without elements has no memory.
[[nodiscard]] StridedView strided_view(const Tensor* tensor);
// The view with other dims: each is one of the view's, or -1 for one with a stride of 0.
[[nodiscard]] StridedView with_dims(const StridedView& view, std::initializer_list<int> dims);

}  // namespace mambasdk
