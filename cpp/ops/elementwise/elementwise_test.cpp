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
        testing::expect_matches_reference(arena, ops().get("multiply"), args(x, y), "multiply");
        testing::expect_matches_reference(arena, ops().get("scale"), args(x, -1.7), "scale");
        testing::expect_matches_reference(arena, ops().get("leaky_relu"), args(x, 0.2), "leaky_relu");
        for (const char* name : {"neg_exp", "gelu", "relu", "sigmoid"}) {
          testing::expect_matches_reference(arena, ops().get(name), args(x), name);
        }
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Over the whole range: far out gelu is 0 or x, and the middle loses no digits to cancellation.
TEST(Elementwise, GeluIsCloseEverywhere) {
  for (const Isa isa : testing::instruction_sets()) {
    const testing::Settings restore;
    set_max_isa(isa);
    Arena arena(3);
    const Tensor* x = arena.normal(dtype::f32, {60001});
    for (int i = 0; i <= 60000; ++i) x->ptr<float>()[i] = static_cast<float>(i - 30000) * 1e-3f;
    const Tensor got = testing::call(arena, ops().get("gelu"), args(x))[0];
    for (std::int64_t i = 0; i < x->numel(); ++i) {
      const auto v = static_cast<double>(x->ptr<float>()[i]);
      const double expected = 0.5 * v * std::erfc(-v * std::sqrt(0.5));
      ASSERT_NEAR(testing::element(got, i), expected, 3e-7 * std::abs(v)) << v << " on " << isa_name(isa);
    }
  }
}

TEST(Elementwise, NotANumberStaysSo) {
  Arena arena(4);
  const Tensor* x = arena.normal(dtype::f32, {20});
  for (int i = 0; i < 20; ++i) x->ptr<float>()[i] = std::numeric_limits<float>::quiet_NaN();
  for (const char* name : {"gelu", "relu", "sigmoid"}) {
    const Tensor got = testing::call(arena, ops().get(name), args(x))[0];
    for (std::int64_t i = 0; i < 20; ++i) EXPECT_TRUE(std::isnan(testing::element(got, i))) << name;
  }
}

TEST(Elementwise, MayWriteOverAnArgument) {
  for (const char* name : {"add", "silu_mul", "multiply"}) {
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
