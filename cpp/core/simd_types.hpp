// From an element type at run time to the code compiled for it. For *.isa.cpp only.
//
// AVX512_BF16 changes nothing but conversions to bfloat16 and products of it: for float32 and float16 its code would be
// that of avx512 once more. So a kernel begins with MAMBASDK_SHARE_AVX512(what it is for, its own call), which in that
// set goes on to avx512 where no bfloat16 is written, and compiles the rest for the types that are left: with_own_type.
#pragma once

#include "core/simd.hpp"

#if defined(__AVX512BF16__) && !defined(MAMBASDK_WITHOUT_AVX512)
#define MAMBASDK_SHARES_AVX512 1
#define MAMBASDK_SHARE_AVX512(has_bf16, call) \
  if (!(has_bf16)) return ::mambasdk::avx512::call
#else
#define MAMBASDK_SHARES_AVX512 0
#define MAMBASDK_SHARE_AVX512(has_bf16, call) static_assert(true)
#endif

namespace mambasdk::MAMBASDK_ISA {

// Whether kernels that write these types are compiled here.
template <class... T>
inline constexpr bool is_own = !MAMBASDK_SHARES_AVX512 || (std::is_same_v<T, bf16> || ...);

namespace type_detail {
template <bool kOwn, class F>
MAMBASDK_SIMD auto with_type(DType type, F&& f) {
#define MAMBASDK_WITH_TYPE(id, name, code, bits, block, bytes, stored, array, use, T) \
  if constexpr (is_kernel_type<T> && (!kOwn || is_own<T>)) {                          \
    using Element = std::conditional_t<is_kernel_type<T>, T, float>;                  \
    if (type == dtype::id) return f(Element{});                                       \
  }
  MAMBASDK_DTYPES(MAMBASDK_WITH_TYPE)
#undef MAMBASDK_WITH_TYPE
  refuse_dtype(type, "a vector kernel");
}
}  // namespace type_detail

// f(a value of the C++ type of `type`), one of float32, bfloat16 and float16.
template <class F>
MAMBASDK_SIMD auto with_type(DType type, F&& f) {
  return type_detail::with_type<false>(type, f);
}
// The same for the types that are left behind MAMBASDK_SHARE_AVX512.
template <class F>
MAMBASDK_SIMD auto with_own_type(DType type, F&& f) {
  return type_detail::with_type<true>(type, f);
}

}  // namespace mambasdk::MAMBASDK_ISA
