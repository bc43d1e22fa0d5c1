// A borrowed, strided view of an n-dimensional array. Owns nothing. Strides count elements.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/dtype_info.hpp"

namespace mambasdk {

inline constexpr int kMaxDims = 8;
enum class Device : std::int32_t { cpu = 1, cuda = 2 };  // a type of device: DLPack's DLDeviceType, any of them

struct Tensor {
  void* data = nullptr;
  DType dtype{2, 32};
  Device device = Device::cpu;
  int ndim = 0;
  int device_index = 0;  // of several devices of that type
  std::array<std::int64_t, kMaxDims> shape{};
  std::array<std::int64_t, kMaxDims> strides{};

  // Contiguous view. Throws Error(invalid_argument) for more than kMaxDims dims, or for 2^63 elements.
  static Tensor contiguous(void* data, DType dtype, const std::int64_t* shape, int ndim);

  template <class T>
  [[nodiscard]] T* ptr() const {
    return static_cast<T*>(data);
  }
  // Negative d counts from the last dim.
  [[nodiscard]] std::int64_t size(int d) const { return shape[static_cast<std::size_t>(d < 0 ? d + ndim : d)]; }
  [[nodiscard]] std::int64_t stride(int d) const { return strides[static_cast<std::size_t>(d < 0 ? d + ndim : d)]; }
  // Both throw Error(invalid_argument) where the count does not fit 63 bits.
  [[nodiscard]] std::int64_t numel() const;
  [[nodiscard]] std::int64_t nbytes() const;
  // Whether every count of elements or bytes and every offset fits 63 bits, for extents from 0 on. Kernels compute with
  // plain integers because calls with other tensors are refused.
  [[nodiscard]] bool is_addressable() const noexcept;
  [[nodiscard]] bool is_contiguous() const;
  // The same elements, those along dim d in the opposite order.
  [[nodiscard]] Tensor mirrored(int d) const;
  [[nodiscard]] std::string shape_text() const;  // "(2, 8, 16)"
};

}  // namespace mambasdk
