// Elementwise functions over rows, in pieces that stay in the first-level cache.
#include "ops/elementwise/elementwise.hpp"

#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace elementwise;
using Index = std::int64_t;
constexpr Index kPiece = 1024;

template <Function kFunction>
MAMBASDK_SIMD void apply(const float* x, const float* y, float* out, Index n) {
  for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
    const vf a = load_n(x + i, count);
    vf result;
    if constexpr (kFunction == Function::add) result = a + load_n(y + i, count);
    if constexpr (kFunction == Function::silu_mul) result = silu(a) * load_n(y + i, count);
    if constexpr (kFunction == Function::neg_exp) result = -exp(a);
    store_n(out + i, result, count);
  });
}

template <Function kFunction>
void run(const Args& a, const Parallel& parallel) {
  const Index pieces = (a.columns + kPiece - 1) / kPiece;
  const Index per_piece = a.columns < kPiece ? a.columns + 1 : kPiece;
  const Index grain = 16384 / per_piece > 1 ? 16384 / per_piece : 1;
  parallel(a.rows * pieces, grain, [&](Index begin, Index end) {
    alignas(64) float x_buffer[kPiece], y_buffer[kPiece], out_buffer[kPiece];
    for (Index i = begin; i < end; ++i) {
      const Index r = i / pieces;
      const Index first = i % pieces * kPiece;
      const Index n = a.columns - first < kPiece ? a.columns - first : kPiece;
      const float* x = read_row(a.first, r, x_buffer, n, first);
      const float* y = a.second.data != nullptr ? read_row(a.second, r, y_buffer, n, first) : nullptr;
      float* out = output_at(a.out, a.type, r * a.columns + first, out_buffer);
      apply<kFunction>(x, y, out, n);
      write_out(out, a.out, a.type, r * a.columns + first, n);
    }
  });
}

}  // namespace

void elementwise_rows(const Args& a, const Parallel& parallel) {
  switch (a.function) {
    case Function::add:
      return run<Function::add>(a, parallel);
    case Function::silu_mul:
      return run<Function::silu_mul>(a, parallel);
    default:
      return run<Function::neg_exp>(a, parallel);
  }
}

}  // namespace mambasdk::MAMBASDK_ISA
