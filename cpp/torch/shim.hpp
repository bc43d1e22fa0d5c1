// torch's stable C shim, bound at run time to the libtorch that is already in the process. Nothing here is linked, so
// one binary serves every torch from 2.10 on and carries no dependency that a wheel would have to bundle.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>

#include <cstdint>

#include "core/dtype_table.hpp"

namespace mambasdk::torch_adapter {

#define MAMBASDK_TORCH_SHIM(X)          \
  X(aoti_torch_abi_version)             \
  X(aoti_torch_device_type_cpu)         \
  X(aoti_torch_device_type_cuda)        \
  X(aoti_torch_device_type_mps)         \
  X(aoti_torch_device_type_privateuse1) \
  X(aoti_torch_device_type_xpu)         \
  X(aoti_torch_is_defined)              \
  X(aoti_torch_get_dim)                 \
  X(aoti_torch_get_sizes)               \
  X(aoti_torch_get_strides)             \
  X(aoti_torch_get_dtype)               \
  X(aoti_torch_get_device_type)         \
  X(aoti_torch_get_device_index)        \
  X(aoti_torch_empty_strided)           \
  X(aoti_torch_delete_tensor_object)    \
  X(aoti_torch_library_init_fragment)   \
  X(aoti_torch_library_init_impl)       \
  X(aoti_torch_library_def)             \
  X(torch_library_impl)                 \
  X(torch_get_const_data_ptr)           \
  X(torch_get_mutable_data_ptr)         \
  X(torch_parallel_for)

struct Shim {
#define MAMBASDK_TORCH_MEMBER(name) decltype(&::name) name = nullptr;
  MAMBASDK_TORCH_SHIM(MAMBASDK_TORCH_MEMBER)
#define MAMBASDK_TORCH_DTYPE(id, name, code, bits, block, bytes, stored, array, ...) \
  MAMBASDK_TORCH_MEMBER(aoti_torch_dtype_##array)
  MAMBASDK_ARRAY_DTYPES(MAMBASDK_TORCH_DTYPE)
#undef MAMBASDK_TORCH_DTYPE
#undef MAMBASDK_TORCH_MEMBER
  // From 2.13 on; before, an optional argument's cell is freed with operator delete.
  AOTITorchError (*torch_delete_stable_ivalue)(StableIValue*) = nullptr;
};

// Throws std::runtime_error when no libtorch is loaded, or one that is older than 2.10.
const Shim& shim();

// Any other function of the libtorch that is loaded; null where it has none of that name.
[[nodiscard]] void* find_symbol(const char* name);

}  // namespace mambasdk::torch_adapter
