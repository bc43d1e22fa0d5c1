// torch's C shim, bound at run time to the one libtorch of this process. Nothing of torch is linked, so one binary
// serves every torch from 2.10 on; what ties a model to a torch version is its own compiled library.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <cstdint>
#include <memory>
#include <string>

#include "core/tensor.hpp"

namespace mambasdk::aoti {

#define MAMBASDK_AOTI_SHIM(X)           \
  X(aoti_torch_abi_version)             \
  X(aoti_torch_device_type_cpu)         \
  X(aoti_torch_create_tensor_from_blob) \
  X(aoti_torch_delete_tensor_object)    \
  X(aoti_torch_get_dim)                 \
  X(aoti_torch_get_sizes)               \
  X(aoti_torch_get_strides)             \
  X(aoti_torch_get_dtype)               \
  X(aoti_torch_get_data_ptr)

struct LibTorch {
#define MAMBASDK_AOTI_MEMBER(name) decltype(&::name) name = nullptr;
  MAMBASDK_AOTI_SHIM(MAMBASDK_AOTI_MEMBER)
#define MAMBASDK_AOTI_DTYPE(id, name, code, bits, block, bytes, stored, array, ...) \
  MAMBASDK_AOTI_MEMBER(aoti_torch_dtype_##array)
  MAMBASDK_ARRAY_DTYPES(MAMBASDK_AOTI_DTYPE)
#undef MAMBASDK_AOTI_DTYPE
#undef MAMBASDK_AOTI_MEMBER
  std::string version;  // "2.13.0"
};

// The libtorch that the process has; else the one that MAMBASDK_LIBTORCH names (libtorch_cpu.so or its folder); else
// that of the Python environment that the SDK is installed in; else libtorch_cpu.so on the library path. Errors:
// unsupported, with what to do.
const LibTorch& libtorch();
// Makes the SDK's operations known to it, those that plugins brought since the last call too.
void register_operations_with_torch();

// A tensor of torch's; goes back when this dies.
struct DeleteTensor {
  void operator()(AtenTensorOpaque* handle) const noexcept;
};
using TensorHandle = std::unique_ptr<AtenTensorOpaque, DeleteTensor>;

// A handle on the memory of `t`, which is contiguous and must outlive it.
[[nodiscard]] TensorHandle borrow(const Tensor& t);
// What a handle shows. Errors: unsupported (a dtype or rank that packages do not have).
[[nodiscard]] Tensor view(AtenTensorHandle handle);
[[nodiscard]] DType dtype_from_torch(std::int32_t dtype);

}  // namespace mambasdk::aoti
