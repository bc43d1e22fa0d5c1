// Elementwise kernels against their references, strided and in place.
#include "ops/elementwise/elementwise.hpp"

#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::args;
using testing::Layout;

const Registry& ops() {
  static const Registry* table = [] {
    auto* made = new Registry;
    register_elementwise(*made);
    return made;
  }();
  return *table;
}

const std::vector<std::vector<std::int64_t>>& shapes() {
  static const std::vector<std::vector<std::int64_t>> all = {{},      {0},       {1},          {5000},
                                                             {3, 17}, {2, 0, 4}, {2, 3, 1100}, {70, 16}};
  return all;
}

TEST(Elementwise, MatchesReference) {
  for (const DType type : {dtype::f32, dtype::bf16, dtype::f16}) {
    for (const std::vector<std::int64_t>& shape : shapes()) {
      for (const Layout layout : {Layout::contiguous, Layout::padded, Layout::transposed}) {
        Arena arena(1);
        const Tensor* x = arena.normal(type, shape, layout);
        const Tensor* y = arena.normal(type, shape);
        testing::expect_matches_reference(arena, ops().get("add"), args(x, y), "add");
        testing::expect_matches_reference(arena, ops().get("silu_mul"), args(x, y), "silu_mul");
        testing::expect_matches_reference(arena, ops().get("neg_exp"), args(x), "neg_exp");
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Elementwise, MayWriteOverAnArgument) {
  for (const char* name : {"add", "silu_mul"}) {
    for (const std::size_t over : {std::size_t{0}, std::size_t{1}}) {
      Arena arena(2);
      const std::vector<Value> inputs =
          args(arena.normal(dtype::bf16, {3, 1500}), arena.normal(dtype::bf16, {3, 1500}));
      const Tensor expected = testing::call(arena, ops().get(name), inputs)[0];
      const std::vector<Tensor> out = {*inputs[over].tensor};
      ops().get(name).call(default_context(), inputs, out);
      EXPECT_EQ(std::memcmp(out[0].data, expected.data, static_cast<std::size_t>(expected.nbytes())), 0) << name;
    }
  }
}

}  // namespace
}  // namespace mambasdk
