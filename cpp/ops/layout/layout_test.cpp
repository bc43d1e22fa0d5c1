// Copies and joins against their references, for any layout.
#include "ops/layout/layout.hpp"

#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::args;
using testing::Layout;

const Registry& ops() {
  return testing::operations<register_layout>();
}

constexpr DType kTypes[] = {dtype::f32, dtype::bf16, dtype::f16};
constexpr Layout kLayouts[] = {Layout::contiguous, Layout::padded, Layout::transposed};

TEST(Layout, ConcatenationMatchesReference) {
  for (const DType type : kTypes) {
    for (const Layout layout : kLayouts) {
      for (const std::vector<std::int64_t>& lead : std::vector<std::vector<std::int64_t>>{{}, {0}, {3}, {2, 2}}) {
        for (const auto& [L, M, D] :
             std::vector<std::array<std::int64_t, 3>>{{98, 1, 192}, {0, 3, 5}, {4, 0, 5}, {3, 7, 1}, {2, 2, 0}}) {
          Arena arena(4);
          std::vector<std::int64_t> first = lead, second = lead;
          first.insert(first.end(), {L, D});
          second.insert(second.end(), {M, D});
          const Tensor *x = arena.normal(type, first, layout), *y = arena.normal(type, second);
          testing::expect_matches_reference(arena, ops().get("concat_rows"), args(x, y), "concat_rows");
          if (HasFatalFailure()) return;
          const Tensor out = testing::call(arena, ops().get("concat_rows"), args(x, y))[0];
          for (std::int64_t i = 0; i < out.numel(); ++i) {
            const std::int64_t m = i / D / (L + M), row = i / D % (L + M), d = i % D;
            const double expected =
                row < L ? testing::element(*x, (m * L + row) * D + d) : testing::element(*y, (m * M + row - L) * D + d);
            ASSERT_EQ(testing::element(out, i), expected);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace mambasdk
