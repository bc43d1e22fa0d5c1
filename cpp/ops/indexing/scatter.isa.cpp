// Sums of rows, one row of the result after the other.
#include "ops/indexing/scatter.hpp"

#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace indexing;
using Index = std::int64_t;
constexpr Index kBlock = 1024;

template <class T>
[[gnu::noinline]] void add(const T* x, Index n, float* sums) {
  for_lanes(n, [&](Index d, int count) __attribute__((always_inline)) {
    store_n(sums + d, load_n(static_cast<const float*>(sums) + d, count) + load_n(x + d, count), count);
  });
}

template <class T>
void add_of(const ScatterArgs& a, const Parallel& parallel) {
  const Matrices &initial = a.initial, &x = a.x;
  const Index columns = initial.columns, blocks = (columns - 1) / kBlock + 1;
  const Index width = columns < kBlock ? columns : kBlock;
  parallel(initial.count * initial.rows * blocks, width < 8192 ? 8192 / width : 1, [&](Index begin, Index end) {
    alignas(64) float sums[kBlock], wide[kBlock];
    for (Index i = begin; i < end; ++i) {
      const Index column = i % blocks * kBlock, m = i / blocks % initial.rows, b = i / blocks / initial.rows;
      const Index n = columns - column < kBlock ? columns - column : kBlock;
      widen(static_cast<const T*>(initial.matrix.data) + initial.offset(b, m, column), initial.column_stride, sums, n);
      const Index* first = a.first + b * (initial.rows + 1) + m;
      for (Index k = first[0]; k < first[1]; ++k) {
        const T* row = static_cast<const T*>(x.matrix.data) + x.offset(b, a.order[b * x.rows + k], column);
        if (x.column_stride == 1) {
          add(row, n, sums);
        } else {
          widen(row, x.column_stride, wide, n);
          add(static_cast<const float*>(wide), n, sums);
        }
      }
      write_out(sums, a.y, initial.matrix.type, (b * initial.rows + m) * columns + column, n);
    }
  });
}

}  // namespace

void scatter_add_rows(const ScatterArgs& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.x.matrix.type == dtype::bf16, scatter_add_rows(a, parallel));
  with_own_type(a.x.matrix.type, [&]<class T>(T) { add_of<T>(a, parallel); });
}

}  // namespace mambasdk::MAMBASDK_ISA
