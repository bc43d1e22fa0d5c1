#include "core/isa.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace mambasdk {

namespace {

constexpr const char* kNames[kIsaCount] = {"baseline", "avx2", "avx512", "avx512_bf16"};

Isa detect() noexcept {
#if defined(MAMBASDK_X86)
  // These builtins ask cpuid and also whether the operating system saves the wide registers.
  __builtin_cpu_init();
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))) {
    return Isa::baseline;
  }
  if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))) {
    return Isa::avx2;
  }
  return __builtin_cpu_supports("avx512bf16") ? Isa::avx512_bf16 : Isa::avx512;
#else
  return Isa::baseline;
#endif
}

int cap_from_environment() noexcept {
  const char* text = std::getenv("MAMBASDK_MAX_ISA");
  if (text == nullptr) return kIsaCount - 1;
  for (int i = 0; i < kIsaCount; ++i) {
    if (std::strcmp(text, kNames[i]) == 0) return i;
  }
  return kIsaCount - 1;  // doctor reports an unknown name
}

std::atomic<int> active{-1};

}  // namespace

const char* isa_name(Isa isa) noexcept {
  return kNames[static_cast<int>(isa)];
}

Isa detected_isa() noexcept {
  static const Isa detected = detect();
  return detected;
}

Isa active_isa() noexcept {
  int isa = active.load(std::memory_order_relaxed);
  if (isa < 0) {
    const int detected = static_cast<int>(detected_isa());
    const int cap = cap_from_environment();
    isa = detected < cap ? detected : cap;
    active.store(isa, std::memory_order_relaxed);
  }
  return static_cast<Isa>(isa);
}

void set_max_isa(Isa cap) noexcept {
  const int detected = static_cast<int>(detected_isa());
  const int wanted = static_cast<int>(cap);
  active.store(detected < wanted ? detected : wanted, std::memory_order_relaxed);
}

}  // namespace mambasdk
