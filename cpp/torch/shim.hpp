// torch's stable C shim, bound at run time to the libtorch that is already in the process. Nothing here is linked, so
// one binary serves every torch from 2.10 on and carries no dependency that a wheel would have to bundle.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>

#include <cstdint>

namespace mambasdk::torch_adapter {

#define MAMBASDK_TORCH_SHIM(X)        \
  X(aoti_torch_abi_version)           \
  X(aoti_torch_device_type_cpu)       \
  X(aoti_torch_device_type_cuda)      \
  X(aoti_torch_dtype_bfloat16)        \
  X(aoti_torch_dtype_float16)         \
  X(aoti_torch_dtype_float32)         \
  X(aoti_torch_dtype_float64)         \
  X(aoti_torch_dtype_uint8)           \
  X(aoti_torch_dtype_int8)            \
  X(aoti_torch_dtype_int16)           \
  X(aoti_torch_dtype_int32)           \
  X(aoti_torch_dtype_int64)           \
  X(aoti_torch_dtype_bool)            \
  X(aoti_torch_dtype_complex64)       \
  X(aoti_torch_dtype_complex128)      \
  X(aoti_torch_is_defined)            \
  X(aoti_torch_get_dim)               \
  X(aoti_torch_get_sizes)             \
  X(aoti_torch_get_strides)           \
  X(aoti_torch_get_dtype)             \
  X(aoti_torch_get_device_type)       \
  X(aoti_torch_get_device_index)      \
  X(aoti_torch_empty_strided)         \
  X(aoti_torch_delete_tensor_object)  \
  X(aoti_torch_library_init_fragment) \
  X(aoti_torch_library_init_impl)     \
  X(aoti_torch_library_def)           \
  X(torch_library_impl)               \
  X(torch_get_const_data_ptr)         \
  X(torch_get_mutable_data_ptr)       \
  X(torch_parallel_for)

struct Shim {
#define MAMBASDK_TORCH_MEMBER(name) decltype(&::name) name = nullptr;
  MAMBASDK_TORCH_SHIM(MAMBASDK_TORCH_MEMBER)
#undef MAMBASDK_TORCH_MEMBER
  // From 2.13 on; before, an optional argument's cell is freed with operator delete.
  AOTITorchError (*torch_delete_stable_ivalue)(StableIValue*) = nullptr;
};

// Throws std::runtime_error when no libtorch is loaded, or one that is older than 2.10.
const Shim& shim();

}  // namespace mambasdk::torch_adapter
