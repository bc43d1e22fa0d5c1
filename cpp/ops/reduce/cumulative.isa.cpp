// Running sums in pairs of float32, the sum and what its rounding left out; along a run in double.
#include "ops/reduce/reduce.hpp"
#include "ops/reduce/reduce_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace reduce;
using Index = std::int64_t;
constexpr Index kBlock = 256;

void running_columns(const CumulativeArgs& a, Index matrix, Index first, Index n) {
  const Matrices& m = a.matrices;
  alignas(64) float sums[kBlock] = {}, errors[kBlock] = {}, in[kBlock], results[kBlock];
  for (Index row = 0; row < m.rows; ++row) {
    const float* x = read_columns(m, matrix, row, first, n, in);
    const Index at = (matrix * m.rows + row) * m.columns + first;
    float* out = output_at(a.y, m.matrix.type, at, results);
    for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
      const vf before = load(static_cast<const float*>(sums) + i), added = load_n(x + i, count);
      const vf sum = before + added, part = sum - before;
      const vf error = load(static_cast<const float*>(errors) + i) + ((before - (sum - part)) + (added - part));
      store(sums + i, sum);
      store(errors + i, error);
      const vf whole = sum + error;
      store_n(out + i, select(whole == whole, whole, sum), count);  // infinities leave no error
    });
    write_out(out, a.y, m.matrix.type, at, n);
  }
}

void running_column(const CumulativeArgs& a, Index matrix) {
  const Matrices& m = a.matrices;
  alignas(64) float in[kBlock], results[kBlock];
  double sum = 0.0;
  for (Index row = 0; row < m.rows; row += kBlock) {
    const Index n = m.rows - row < kBlock ? m.rows - row : kBlock, at = matrix * m.rows + row;
    const float* x = read_run(m, matrix, 0, row, n, in);
    float* out = output_at(a.y, m.matrix.type, at, results);
    for (Index i = 0; i < n; ++i) {
      sum += static_cast<double>(x[i]);
      out[i] = static_cast<float>(sum);
    }
    write_out(out, a.y, m.matrix.type, at, n);
  }
}

}  // namespace

void cumulative_rows(const CumulativeArgs& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.matrices.matrix.type == dtype::bf16, cumulative_rows(a, parallel));
  const Matrices& m = a.matrices;
  const Index blocks = (m.columns - 1) / kBlock + 1;
  const Index work = (m.rows < 65536 ? m.rows : 65536) * (m.columns < kBlock ? m.columns : kBlock);
  parallel(m.count * blocks, work < 32768 ? 32768 / work : 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index first = i % blocks * kBlock;
      if (m.columns == 1) {
        running_column(a, i);
      } else {
        running_columns(a, i / blocks, first, m.columns - first < kBlock ? m.columns - first : kBlock);
      }
    }
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
