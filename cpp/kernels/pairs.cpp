#include "kernels/pairs.hpp"

#include <atomic>

#include "core/isa.hpp"

namespace mambasdk {
namespace {

std::atomic<int> g_answer{-1};

bool by_processor() {
#if defined(MAMBASDK_X86)
  static const bool found = [] {
    __builtin_cpu_init();
    return __builtin_cpu_is("amd") != 0;
  }();
  return found;
#else
  return false;
#endif
}

}  // namespace

bool pairs_are_fast() noexcept {
  if (active_isa() < Isa::avx512_bf16) return false;
  const int answer = g_answer.load(std::memory_order_relaxed);
  return answer < 0 ? by_processor() : answer != 0;
}

void set_pairs_are_fast(int answer) noexcept {
  g_answer.store(answer, std::memory_order_relaxed);
}

}  // namespace mambasdk
