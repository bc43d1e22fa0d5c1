#include "kernels/pairs.hpp"

#include <atomic>

#include "core/isa.hpp"

namespace mambasdk {
namespace {

std::atomic<int> g_answer{-1};

bool vectors_are_fast() {
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

PairProducts pair_products() noexcept {
  const Isa isa = active_isa();
  if (isa < Isa::avx512_bf16) return PairProducts::none;
  const bool tiles = isa == Isa::avx512_amx;
  const int answer = g_answer.load(std::memory_order_relaxed);
  if (answer < 0) return tiles ? PairProducts::tiles : vectors_are_fast() ? PairProducts::vectors : PairProducts::none;
  const auto wanted = static_cast<PairProducts>(answer);
  return wanted == PairProducts::tiles && !tiles ? PairProducts::vectors : wanted;
}

void set_pair_products(int answer) noexcept {
  g_answer.store(answer, std::memory_order_relaxed);
}

}  // namespace mambasdk
