#include "core/signature.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.hpp"

namespace mambasdk {
namespace {

TEST(Signature, ReadsEveryPartOfTheNotation) {
  const Signature s = Signature::parse(
      "scan(u: T[B,L,D], A: acc[K,D,N], w: W[*,K-1]?, idx: i32[S+1]?, flag: bool = true, n: int = -3, "
      "eps: float = 1e-5, hi: float = inf) -> (y: T[B,L,D], s: acc[S,(L+127)//128] if flag, g: W[*] if w) "
      "where S = B if not idx, K = 2*B-1 if not w");
  EXPECT_EQ(s.name, "scan");
  ASSERT_EQ(s.inputs.size(), 8u);
  EXPECT_EQ(s.inputs[1].dtype.kind, DTypeSpec::Kind::accumulator);
  EXPECT_TRUE(s.inputs[2].variadic && s.inputs[2].optional);
  EXPECT_TRUE(s.inputs[4].default_flag);
  EXPECT_EQ(s.inputs[5].default_integer, -3);
  EXPECT_DOUBLE_EQ(s.inputs[6].default_real, 1e-5);
  EXPECT_TRUE(std::isinf(s.inputs[7].default_real));
  ASSERT_EQ(s.outputs.size(), 3u);
  EXPECT_EQ(s.outputs[1].condition, s.input_index("flag"));
  EXPECT_EQ(s.outputs[2].condition, s.input_index("w"));
  ASSERT_EQ(s.rules.size(), 2u);
  EXPECT_EQ(s.rules[1].unless, s.input_index("w"));
}

TEST(Signature, EvaluatesExpressionsLikePython) {
  const Signature s = Signature::parse("f(x: T[A,B]) -> (y: T[(A+127)//128, A-B, 2*A+B*3, A-B-1, (A-B)//4])");
  const std::vector<std::int64_t> dims = {129, 132};
  std::vector<std::int64_t> got;
  for (const DimExpr& e : s.outputs[0].shape) got.push_back(*e.evaluate(dims));
  EXPECT_EQ(got, (std::vector<std::int64_t>{2, -3, 654, -4, -1}));
  EXPECT_FALSE(s.outputs[0].shape[0].evaluate({-1, 1}).has_value());
}

TEST(Signature, IntegerArgumentsAreDimsOfTheirName) {
  const Signature s = Signature::parse("f(x: T[A], step: int) -> (y: T[(A-1)//step+1])");
  const std::vector<std::int64_t> dims = {10, 3}, none = {10, 0}, unbound = {10, -1};
  EXPECT_EQ(s.dims, (std::vector<std::string>{"A", "step"}));
  EXPECT_EQ(s.outputs[0].shape[0].evaluate(dims), 4);
  EXPECT_FALSE(s.outputs[0].shape[0].evaluate(none).has_value());
  EXPECT_FALSE(s.outputs[0].shape[0].evaluate(unbound).has_value());
}

TEST(Signature, RefusesMistakesWithTheirPlace) {
  for (const char* text :
       {"", "f", "f()", "f() -> ()", "f(x) -> (y: T[A])", "f(x: T[A) -> (y: T[A])", "f(x: T) -> (y: T[A])",
        "f(x: T[A//0]) -> (y: T[A])", "f(x: T[A//B]) -> (y: T[A])", "f(x: T[A]) -> (y: T[A] if z)",
        "f(x: T[A]) -> (y: T[A] if x)", "f(b: bool = 1) -> (y: T[A])", "f(x: T[A]) -> (y: T[A]) extra",
        "f(x: T[A]) -> (y: T[A]) where B = A"}) {
    try {
      (void)Signature::parse(text);
      FAIL() << "accepted: " << text;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("position"), std::string::npos) << e.what();
    }
  }
}

}  // namespace
}  // namespace mambasdk
