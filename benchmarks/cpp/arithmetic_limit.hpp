// For the benchmarks of kernels bound by arithmetic: as many multiply-adds in registers, measured in the same run; and
// the tensors that such a benchmark makes.
#pragma once

#include <cmath>
#include <deque>
#include <initializer_list>

#include "bandwidth_limit.hpp"
#include "core/element.hpp"
#include "core/registry.hpp"

namespace mambasdk::bench {

class Tensors {
 public:
  // Values between shift - scale/2 and shift + scale/2.
  const Tensor* make(DType of, std::initializer_list<std::int64_t> shape, double scale = 1.0, double shift = 0.0) {
    Tensor t = Tensor::contiguous(nullptr, of, shape.begin(), static_cast<int>(shape.size()));
    memory_.emplace_back(static_cast<std::size_t>(t.nbytes()));
    t.data = memory_.back().data();
    for (std::int64_t i = 0; i < t.numel(); ++i)
      store_element(t.data, of, i, shift + scale * (std::fmod(0.618034 * static_cast<double>(i), 1.0) - 0.5));
    return &tensors_.emplace_back(t);
  }
  // The same elements with the last two dims changing places.
  const Tensor* transposed(const Tensor* of) {
    Tensor t = *of;
    const auto last = static_cast<std::size_t>(t.ndim - 1);
    std::swap(t.shape[last], t.shape[last - 1]);
    std::swap(t.strides[last], t.strides[last - 1]);
    return &tensors_.emplace_back(t);
  }

 private:
  std::deque<Array<std::byte>> memory_;
  std::deque<Tensor> tensors_;
};

// What multiplies: vectors of float32, vectors of pairs of bfloat16, or tiles of those.
enum class Arithmetic { float32, pairs, tiles };

inline void run_limit(Arithmetic arithmetic, double multiply_adds, const Parallel& parallel) {
#if defined(MAMBASDK_X86) && !defined(MAMBASDK_WITHOUT_AVX512_AMX)
  if (arithmetic == Arithmetic::tiles) {
    return avx512_amx::limit_tiles(static_cast<std::int64_t>(multiply_adds / kTileLimitAdds), parallel);
  }
#endif
  const int lanes = active_isa() >= Isa::avx512 ? 16 : active_isa() == Isa::avx2 ? 8 : 4;
  const auto count = static_cast<std::int64_t>(multiply_adds / lanes);
  if (arithmetic == Arithmetic::float32) return MAMBASDK_PICK(limit_fma)(count, parallel);
  MAMBASDK_PICK(limit_pairs)(count / 2, parallel);
}

// Times `kernel` beside as many multiply-adds.
template <class F>
void run_arithmetic(benchmark::State& state, double multiply_adds, F&& kernel,
                    Arithmetic arithmetic = Arithmetic::float32) {
  const auto limit = [&] { run_limit(arithmetic, multiply_adds, default_context().parallel()); };
  state.counters["gflops"] = 2e-9 * multiply_adds / run_beside(state, kernel, limit).median;
}

}  // namespace mambasdk::bench
