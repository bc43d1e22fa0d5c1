// One element of a tensor as a double, whatever its floating-point type: for scalar reference kernels and packing code.
#pragma once

#include <cstdint>

#include "core/dtype.hpp"

namespace mambasdk {

namespace detail {
template <class T>
double load_as_double(const void* data, std::int64_t index) {
  const T x = static_cast<const T*>(data)[index];
  if constexpr (std::is_same_v<T, double>) return x;
  return static_cast<double>(to_float(x));
}
template <class T>
void store_double(void* data, std::int64_t index, double value) {
  T& x = static_cast<T*>(data)[index];
  if constexpr (std::is_same_v<T, double>) {
    x = value;
  } else {
    x = from_float<T>::cast(static_cast<float>(value));
  }
}
}  // namespace detail

// Both throw Error(unsupported) for a type that is no real number's.
inline double load_element(const void* data, DType type, std::int64_t index) {
#define MAMBASDK_LOAD_ELEMENT(id, name, code, bits, block, bytes, stored, array, use, T) \
  if constexpr (!std::is_void_v<T>) {                                                    \
    if (type == dtype::id) return detail::load_as_double<T>(data, index);                \
  }
  MAMBASDK_DTYPES(MAMBASDK_LOAD_ELEMENT)
#undef MAMBASDK_LOAD_ELEMENT
  refuse_dtype(type, "reading one element");
}

inline void store_element(void* data, DType type, std::int64_t index, double value) {
#define MAMBASDK_STORE_ELEMENT(id, name, code, bits, block, bytes, stored, array, use, T) \
  if constexpr (!std::is_void_v<T>) {                                                     \
    if (type == dtype::id) return detail::store_double<T>(data, index, value);            \
  }
  MAMBASDK_DTYPES(MAMBASDK_STORE_ELEMENT)
#undef MAMBASDK_STORE_ELEMENT
  refuse_dtype(type, "writing one element");
}

}  // namespace mambasdk
