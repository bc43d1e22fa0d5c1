// Copies of rows whose elements are apart: where those of kLanes rows are side by side, as tiles turned in registers.
#include "ops/rows.hpp"

#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using Index = std::int64_t;

template <class T>
void copy(const Rows& in, Index rows, Index columns, T* out, const Parallel& parallel) {
  const Index blocks = (rows + kLanes - 1) / kLanes, grain = 16384 / (kLanes * columns) + 1;
  parallel(blocks, grain, [&](Index begin, Index end) {
    for (Index r = begin * kLanes; r < end * kLanes && r < rows; r += kLanes) {
      const Index count = rows - r < kLanes ? rows - r : kLanes;
      if (count == kLanes && are_side_by_side(in, r)) {
        turn_rows(row_of<T>(in, r), in.element_stride, out + r * columns, columns, columns);
        continue;
      }
      for (Index i = r; i < r + count; ++i) {
        const T* from = row_of<T>(in, i);
        for (Index c = 0; c < columns; ++c) out[i * columns + c] = from[c * in.element_stride];
      }
    }
  });
}

}  // namespace

void copy_rows(const Rows& in, Index rows, Index columns, void* out, const Parallel& parallel) {
  with_type(in.type, [&]<class T>(T) { copy(in, rows, columns, static_cast<T*>(out), parallel); });
}

}  // namespace mambasdk::MAMBASDK_ISA
