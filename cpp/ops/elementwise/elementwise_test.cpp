// Elementwise kernels against their references, strided and in place.
#include "ops/elementwise/elementwise.hpp"

#include <set>

#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::args;
using testing::Layout;

const Registry& ops() {
  return testing::operations<register_elementwise>();
}

const std::vector<std::vector<std::int64_t>>& shapes() {
  static const std::vector<std::vector<std::int64_t>> all = {{},      {0},       {1},          {5000},
                                                             {3, 17}, {2, 0, 4}, {2, 3, 1100}, {70, 16}};
  return all;
}

// Those that have no value, or one outside float16, somewhere near 0 or below: their arguments are 1/2 and more.
bool needs_positive(std::string_view name) {
  static const std::set<std::string_view> names = {"divide", "power", "remainder", "floor_divide", "sqrt",
                                                   "rsqrt",  "log",   "log1p",     "reciprocal"};
  constexpr std::string_view suffix = "_backward";
  return names.contains(name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : name);
}
// Answers, which a NaN among the arguments has too.
bool is_answer(std::string_view name) {
  static const std::set<std::string_view> names = {"equal",       "not_equal",     "less",        "less_equal",
                                                   "greater",     "greater_equal", "logical_and", "logical_or",
                                                   "logical_not", "sign",          "where"};
  return names.contains(name);
}

// Arguments of any operation of the table or of its derivative: tensors of one shape, and numbers.
std::vector<Value> arguments_of(const Op& op, Arena& arena, DType type, const std::vector<std::int64_t>& shape,
                                Layout layout) {
  std::vector<Value> out;
  for (const Argument& a : op.signature.inputs) {
    const DType of = a.dtype.kind == DTypeSpec::Kind::fixed ? a.dtype.fixed : type;
    out.push_back(a.kind == Argument::Kind::tensor ? testing::arg(arena.normal(of, shape, layout))
                                                   : testing::arg(-0.7));
    if (a.kind == Argument::Kind::tensor && needs_positive(op.signature.name)) {
      const Tensor& t = *out.back().tensor;
      for (std::int64_t i = 0; i < t.numel(); ++i)
        store_element(t.data, of, testing::offset_of(t, i), std::abs(testing::element(t, i)) + 0.5);
    }
    layout = Layout::contiguous;
  }
  return out;
}

TEST(Elementwise, MatchesReference) {
  EXPECT_GE(ops().list().size(), 100u);
  for (const Op* op : ops().list()) {
    for (const DType type : {dtype::f32, dtype::bf16, dtype::f16}) {
      for (const std::vector<std::int64_t>& shape : shapes()) {
        for (const Layout layout : {Layout::contiguous, Layout::padded, Layout::transposed}) {
          Arena arena(1);
          const std::vector<Value> inputs = arguments_of(*op, arena, type, shape, layout);
          testing::expect_matches_reference(arena, *op, inputs, testing::widened(arena, *op, inputs),
                                            op->signature.name);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(Elementwise, EveryOperationHasItsDerivative) {
  for (const Op* op : ops().list()) {
    if (op->signature.name.ends_with("_backward")) continue;
    EXPECT_NE(op->backward, nullptr) << op->signature.name;
  }
}

// Near 0 and far out the hyperbolic tangent keeps its digits.
TEST(Elementwise, TanhIsCloseEverywhere) {
  for (const Isa isa : testing::instruction_sets()) {
    const testing::Settings restore;
    set_max_isa(isa);
    Arena arena(5);
    const Tensor* x = arena.normal(dtype::f32, {60001});
    for (int i = 0; i <= 60000; ++i) x->ptr<float>()[i] = static_cast<float>(i - 30000) * (i % 7 == 0 ? 1e-7f : 5e-4f);
    const Tensor got = testing::call(arena, ops().get("tanh"), args(x))[0];
    for (std::int64_t i = 0; i < x->numel(); ++i) {
      const double expected = std::tanh(static_cast<double>(x->ptr<float>()[i]));
      ASSERT_NEAR(testing::element(got, i), expected, 4e-7 * std::abs(expected)) << x->ptr<float>()[i];
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
  for (const Op* op : ops().list()) {
    if (op->signature.name.ends_with("_backward") || is_answer(op->signature.name)) continue;
    Arena arena(4);
    const std::vector<Value> inputs = arguments_of(*op, arena, dtype::f32, {20}, Layout::contiguous);
    for (int i = 0; i < 20; ++i) inputs[0].tensor->ptr<float>()[i] = std::numeric_limits<float>::quiet_NaN();
    const Tensor got = testing::call(arena, *op, inputs)[0];
    for (std::int64_t i = 0; i < 20; ++i) EXPECT_TRUE(std::isnan(testing::element(got, i))) << op->signature.name;
  }
}

TEST(Elementwise, MayWriteOverAnArgument) {
  for (const Op* op : ops().list()) {
    if (op->doc.find("may be the memory") == std::string::npos) continue;
    for (std::size_t over = 0; over < op->signature.inputs.size(); ++over) {
      if (op->signature.inputs[over].kind != Argument::Kind::tensor) continue;
      Arena arena(2);
      const std::vector<Value> inputs = arguments_of(*op, arena, dtype::bf16, {3, 1500}, Layout::contiguous);
      const Tensor expected = testing::call(arena, *op, inputs)[0];
      const std::vector<Tensor> out = {*inputs[over].tensor};
      op->call(default_context(), inputs, out);
      EXPECT_EQ(std::memcmp(out[0].data, expected.data, static_cast<std::size_t>(expected.nbytes())), 0)
          << op->signature.name;
    }
  }
}

}  // namespace
}  // namespace mambasdk
