// Reductions against their references, over the bounds of parts and blocks.
#include "ops/reduce/reduce.hpp"

#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::args;
using testing::Layout;

const Registry& ops() {
  return testing::operations<register_reduce>();
}

constexpr DType kTypes[] = {dtype::f32, dtype::bf16, dtype::f16};
constexpr Layout kLayouts[] = {Layout::contiguous, Layout::padded, Layout::transposed};

TEST(Reduce, MatchesReference) {
  for (const char* name : {"sum_rows", "mean_rows", "max_rows", "min_rows", "cumulative_sum"}) {
    const bool extreme = std::string_view(name).starts_with("m") && std::string_view(name) != "mean_rows";
    for (const DType type : kTypes) {
      for (const Layout layout : kLayouts) {
        for (const std::vector<std::int64_t>& shape : std::vector<std::vector<std::int64_t>>{{5, 7},
                                                                                             {1, 70},
                                                                                             {3, 196, 192},
                                                                                             {2, 2, 300, 33},
                                                                                             {1, 1000, 130},
                                                                                             {0, 4, 4},
                                                                                             {2, 4, 0},
                                                                                             {2, 0, 5},
                                                                                             {6000, 3},
                                                                                             {2, 20000, 1},
                                                                                             {70, 3, 1},
                                                                                             {3, 1030}}) {
          if (extreme && shape[shape.size() - 2] == 0) continue;  // an error
          Arena arena(5);
          testing::expect_matches_reference(arena, ops().get(name), args(arena.normal(type, shape, layout)),
                                            concat(name, " ", shape.size(), " ", dtype_name(type)), 2.0);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

}  // namespace
}  // namespace mambasdk
