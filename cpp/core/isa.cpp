#include "core/isa.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mambasdk {

namespace {

constexpr const char* kNames[kIsaCount] = {"baseline", "avx2", "avx512", "avx512_bf16", "avx512_amx"};

int cap_from_environment() noexcept {
  const char* text = std::getenv("MAMBASDK_MAX_ISA");
  if (text == nullptr) return kIsaCount - 1;
  for (int i = 0; i < kIsaCount; ++i) {
    if (std::strcmp(text, kNames[i]) == 0) return i;
  }
  return kIsaCount - 1;  // doctor reports an unknown name
}

// Tiles of bfloat16 that the processor has, the system saves, and this process may use.
bool has_tiles() noexcept {
#if defined(__x86_64__) && defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kOsXsave = 1U << 27, kAmxBf16 = 1U << 22, kAmxTile = 1U << 24;  // of CPUID 1 and 7
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kOsXsave) == 0) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (~d & (kAmxBf16 | kAmxTile)) != 0) return false;
  constexpr unsigned kTileConfig = 1U << 17, kTileData = 1U << 18;  // of XCR0
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((~low & (kTileConfig | kTileData)) != 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileDataNumber = 18;  // ARCH_REQ_XCOMP_PERM of <asm/prctl.h>
  return syscall(SYS_arch_prctl, kRequestPermission, kTileDataNumber) == 0;
#else
  return false;
#endif
}

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
  if (!__builtin_cpu_supports("avx512bf16")) return Isa::avx512;
  return cap_from_environment() >= static_cast<int>(Isa::avx512_amx) && has_tiles() ? Isa::avx512_amx
                                                                                    : Isa::avx512_bf16;
#else
  return Isa::baseline;
#endif
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
