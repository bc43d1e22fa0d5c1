// Instruction sets: which one this machine has, which one is in use, and how a kernel variant is picked.
// Safe to include from *.isa.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/dtype.hpp"

#if defined(__x86_64__)
#define MAMBASDK_X86 1
#endif

namespace mambasdk {

enum class Isa : int { baseline = 0, avx2 = 1, avx512 = 2, avx512_bf16 = 3, avx512_amx = 4 };
inline constexpr int kIsaCount = 5;

[[nodiscard]] const char* isa_name(Isa isa) noexcept;
// The best this machine runs. Asks the kernel for the tile registers where there are any, unless MAMBASDK_MAX_ISA rules
// them out: a process that has them needs larger signal stacks.
[[nodiscard]] Isa detected_isa() noexcept;
[[nodiscard]] Isa active_isa() noexcept;  // detected, capped by MAMBASDK_MAX_ISA or set_max_isa
void set_max_isa(Isa cap) noexcept;

// Borrowed handle to a thread pool. `body` gets disjoint ranges that cover [0, n); ranges hold at least `grain` items.
// What a kernel computes must not depend on how the ranges fall.
struct Parallel {
  using Body = void (*)(void* arg, std::int64_t begin, std::int64_t end);
  void* self;
  void (*run)(void* self, std::int64_t n, std::int64_t grain, Body body, void* arg);

  template <class F>  // F: void(int64_t begin, int64_t end), must not throw
  MAMBASDK_ALWAYS_INLINE void operator()(std::int64_t n, std::int64_t grain, F&& f) const {
    run(
        self, n, grain,
        [](void* arg, std::int64_t begin, std::int64_t end) {
          (*static_cast<std::remove_reference_t<F>*>(arg))(begin, end);
        },
        const_cast<void*>(static_cast<const void*>(&f)));
  }
};

}  // namespace mambasdk

// In a header: declares every variant of `ret name(args)`.
// In dispatching code: MAMBASDK_PICK(name)(args) calls the variant for active_isa().
//
// avx512_amx adds to avx512_bf16 nothing but products of bfloat16 tiles, so only kernels with such products have that
// variant (MAMBASDK_AMX_SOURCES in cmake/Library.cmake): they are declared with MAMBASDK_DECLARE_PRODUCT_KERNEL, and
// MAMBASDK_PICK_PRODUCT(name, dtype) picks it for bfloat16 alone. All else runs the avx512_bf16 variant there.
//
// A build may leave sets out (MAMBASDK_ISAS in cmake/IsaSources.cmake); a machine then runs the next lower one that is
// there.
#if defined(MAMBASDK_X86) && !defined(MAMBASDK_WITHOUT_AVX2)
#define MAMBASDK_IF_AVX2(...) __VA_ARGS__
#else
#define MAMBASDK_IF_AVX2(...)
#endif
#if defined(MAMBASDK_X86) && !defined(MAMBASDK_WITHOUT_AVX512)
#define MAMBASDK_IF_AVX512(...) __VA_ARGS__
#else
#define MAMBASDK_IF_AVX512(...)
#endif
#if defined(MAMBASDK_X86) && !defined(MAMBASDK_WITHOUT_AVX512_BF16)
#define MAMBASDK_IF_AVX512_BF16(...) __VA_ARGS__
#else
#define MAMBASDK_IF_AVX512_BF16(...)
#endif
#if defined(MAMBASDK_X86) && !defined(MAMBASDK_WITHOUT_AVX512_AMX)
#define MAMBASDK_IF_AVX512_AMX(...) __VA_ARGS__
#else
#define MAMBASDK_IF_AVX512_AMX(...)
#endif

#define MAMBASDK_DECLARE_IN(set, ret, name, ...) \
  namespace set {                                \
  ret name(__VA_ARGS__);                         \
  }
#define MAMBASDK_DECLARE_KERNEL(ret, name, ...)                                     \
  MAMBASDK_DECLARE_IN(baseline, ret, name, __VA_ARGS__)                             \
  MAMBASDK_IF_AVX2(MAMBASDK_DECLARE_IN(avx2, ret, name, __VA_ARGS__))               \
  MAMBASDK_IF_AVX512(MAMBASDK_DECLARE_IN(avx512, ret, name, __VA_ARGS__))           \
  MAMBASDK_IF_AVX512_BF16(MAMBASDK_DECLARE_IN(avx512_bf16, ret, name, __VA_ARGS__)) \
  static_assert(true)
#define MAMBASDK_DECLARE_PRODUCT_KERNEL(ret, name, ...)                           \
  MAMBASDK_DECLARE_KERNEL(ret, name, __VA_ARGS__);                                \
  MAMBASDK_IF_AVX512_AMX(MAMBASDK_DECLARE_IN(avx512_amx, ret, name, __VA_ARGS__)) \
  static_assert(true)

#define MAMBASDK_PICK_IF(set, name) ::mambasdk::active_isa() >= ::mambasdk::Isa::set ? &::mambasdk::set::name:
#define MAMBASDK_PICK(name)                                                                                        \
  (MAMBASDK_IF_AVX512_BF16(MAMBASDK_PICK_IF(avx512_bf16, name)) MAMBASDK_IF_AVX512(MAMBASDK_PICK_IF(avx512, name)) \
       MAMBASDK_IF_AVX2(MAMBASDK_PICK_IF(avx2, name)) &                                                            \
   ::mambasdk::baseline::name)
#define MAMBASDK_PICK_PRODUCT(name, type)                                                                              \
  (MAMBASDK_IF_AVX512_AMX((type) == ::mambasdk::dtype::bf16 && ::mambasdk::active_isa() == ::mambasdk::Isa::avx512_amx \
                              ? &::mambasdk::avx512_amx::name                                                          \
                              :) MAMBASDK_PICK(name))
