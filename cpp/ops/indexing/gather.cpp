// gather: copies, the same for every kernel and dtype.
#include <algorithm>
#include <cstring>

#include "core/registry.hpp"
#include "ops/indexing/indexing.hpp"

namespace mambasdk::indexing {
namespace {

constexpr Declaration kGather = "gather(x: T[*,L,D], index: i32[*,M,D]) -> (y: T[*,M,D])";

void check_gather(const CallOf<kGather>& c) {
  check_indices(c.named<"index">(), c.dim<"L">(), "x");
}

// Rows [begin, end) of the m-th matrix of y, which begins at `to`.
template <class E>
void gather_rows(const Matrices& x, const Matrices& index, std::int64_t m, std::int64_t begin, std::int64_t end,
                 E* to) {
  const auto* from = static_cast<const E*>(x.matrix.data);
  const std::int64_t columns = x.columns;
  if (columns == 1) {
    for (std::int64_t r = begin; r < end; ++r) to[r] = from[x.offset(m, index_at(index, m, r, 0), 0)];
    return;
  }
  const bool by_row = is_by_row(index);
  for (std::int64_t r = begin; r < end; ++r) {
    E* row = to + r * columns;
    if (by_row && x.column_stride == 1) {
      std::memcpy(row, from + x.offset(m, index_at(index, m, r, 0), 0), static_cast<std::size_t>(columns) * sizeof(E));
    } else {
      for (std::int64_t d = 0; d < columns; ++d) row[d] = from[x.offset(m, index_at(index, m, r, d), d)];
    }
  }
}

void gather(const CallOf<kGather>& c) {
  const Tensor &x = c.tensor<"x">(), &index = c.tensor<"index">(), &y = c.output<"y">();
  std::vector<std::int64_t> x_offsets, index_offsets;
  const Matrices from = matrices_of(x, x_offsets), at = matrices_of(index, index_offsets);
  // A matrix is cut, so that one large one is several threads' work too.
  const std::int64_t piece = std::max<std::int64_t>(1, 4096 / at.columns), pieces = (at.rows - 1) / piece + 1;
  const std::int64_t work = std::min(piece, at.rows) * at.columns;
  with_bits(element_bytes(x.dtype), [&]<class E>(E) {
    c.context().parallel()(
        at.count * pieces, std::max<std::int64_t>(1, 16384 / work), [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t m = i / pieces, first = i % pieces * piece;
            gather_rows(from, at, m, first, std::min(at.rows, first + piece), y.ptr<E>() + m * at.rows * at.columns);
          }
        });
  });
}

}  // namespace

void register_gather(Registry& registry) {
  registry.define<kGather>({
      .doc =
          "y[m, d] = x[index[m, d], d]; an index outside of 0 to L - 1 is an error. An index that is expanded along D "
          "(stride 0) copies whole rows. For inference: it has no derivative.",
      .check = check_gather,
      .reference = gather,
      .cpu = gather,
  });
}

}  // namespace mambasdk::indexing
