// Element types: DLPack codes, and the 16-bit floats as plain structs. Safe to include from *.isa.cpp.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/dtype_table.hpp"

#define MAMBASDK_ALWAYS_INLINE inline __attribute__((always_inline))

namespace mambasdk {

// `code` is DLPack's DLDataTypeCode: 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool.
struct DType {
  std::uint8_t code;
  std::uint8_t bits;
  friend constexpr bool operator==(DType a, DType b) { return a.code == b.code && a.bits == b.bits; }
};

namespace dtype {
#define MAMBASDK_DTYPE_CONSTANT(id, name, code, bits, ...) inline constexpr DType id{code, bits};
MAMBASDK_DTYPES(MAMBASDK_DTYPE_CONSTANT)
#undef MAMBASDK_DTYPE_CONSTANT
}  // namespace dtype

// Throws Error(unsupported): `what` has no code for the type.
[[noreturn]] void refuse_dtype(DType type, const char* what);

struct bf16 {
  std::uint16_t bits;
};
struct f16 {
  std::uint16_t bits;
};

namespace detail {
template <class To, class From>
MAMBASDK_ALWAYS_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}
}  // namespace detail

// Whether vector kernels, which compute in float32, are compiled for elements of this C++ type.
template <class T>
inline constexpr bool is_kernel_type = std::is_same_v<T, float> || std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

MAMBASDK_ALWAYS_INLINE float to_float(float x) {
  return x;
}
MAMBASDK_ALWAYS_INLINE float to_float(double x) {
  return static_cast<float>(x);
}
MAMBASDK_ALWAYS_INLINE float to_float(bf16 x) {
  return detail::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}
MAMBASDK_ALWAYS_INLINE float to_float(f16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(x.bits & 0x7fffu) << 13;
  if (magnitude >= (0x7c00u << 13)) return detail::bit_cast<float>(sign | magnitude | 0x7f800000u);  // inf, nan
  // Scaling by 2^112 moves the exponent bias from 15 to 127 and is exact for subnormals too.
  const float scaled = detail::bit_cast<float>(magnitude) * 0x1p112f;
  return detail::bit_cast<float>(detail::bit_cast<std::uint32_t>(scaled) | sign);
}

template <class T>
struct from_float;
template <>
struct from_float<float> {
  static MAMBASDK_ALWAYS_INLINE float cast(float x) { return x; }
};
template <>
struct from_float<double> {
  static MAMBASDK_ALWAYS_INLINE double cast(float x) { return x; }
};
template <>
struct from_float<bf16> {  // round to nearest even; NaN stays NaN
  static MAMBASDK_ALWAYS_INLINE bf16 cast(float x) {
    const std::uint32_t bits = detail::bit_cast<std::uint32_t>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
    return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  }
};
template <>
struct from_float<f16> {  // round to nearest even; overflow to infinity
  static MAMBASDK_ALWAYS_INLINE f16 cast(float x) {
    const std::uint32_t bits = detail::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    std::uint32_t half;
    if (magnitude > 0x7f800000u) {
      half = 0x7e00u;
    } else if (magnitude >= 0x477ff000u) {  // rounds to 65536 or more
      half = 0x7c00u;
    } else if (magnitude < 0x38800000u) {  // subnormal half: let the float adder round at 2^-24
      half = detail::bit_cast<std::uint32_t>(detail::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    } else {
      half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    }
    return {static_cast<std::uint16_t>(sign | half)};
  }
};

}  // namespace mambasdk
