// Declarations read while compiling: places by name, derivatives, and agreement with the parser that the registry uses.
#include "mambasdk/declaration.hpp"

#include <gtest/gtest.h>

#include <string>

#include "core/call.hpp"
#include "core/registry.hpp"
#include "ops/builtin.hpp"

namespace mambasdk {
namespace {

constexpr Declaration kMix =
    "mix(u: T[B,L,D], A: acc[D,N], s: acc[S,K-1,N]?, seq: i32[S+1]?, step: int = 2, keep: bool = false, "
    "save_sums: bool = false, on: bool = true, eps: float = 1e-5) "
    "-> (y: T[B,L//step,D], last: acc[S,N] if keep, sums: acc[(L+127)//128,N] if save_sums, g: T[*] if s) "
    "where S = B if not seq, K = 2*M if not s";
constexpr Declaration kMixBackward = kMix.derivative({.saved = "sums", .after = "A", .unused = "u"});

TEST(Declaration, ReadsPlacesWhileCompiling) {
  static_assert(kMix.name() == "mix");
  static_assert(kMix.input_count() == 9 && kMix.output_count() == 4);
  static_assert(kMix.input("seq") == 3 && kMix.input("eps") == 8 && kMix.input("none") == -1);
  static_assert(kMix.input_kind(3) == Declaration::Kind::tensor && kMix.input_kind(4) == Declaration::Kind::integer);
  static_assert(kMix.input_kind(5) == Declaration::Kind::boolean && kMix.input_kind(8) == Declaration::Kind::real);
  static_assert(kMix.is_optional(2) && !kMix.is_optional(1));
  static_assert(kMix.output("sums") == 2);
  static_assert(kMix.dim("B") == 0 && kMix.dim("S") == 4 && kMix.dim("step") == 6 && kMix.dim("M") == 7);
}

TEST(Declaration, TheDerivativeFollowsFromTheOperation) {
  EXPECT_EQ(DeclarationText<kMixBackward>::view,
            "mix_backward(grad_y: T[B,L//step,D], grad_last: acc[S,N]?, grad_g: T[*]?, A: acc[D,N], "
            "sums: acc[(L+127)//128,N]?, s: acc[S,K-1,N]?, seq: i32[S+1]?, step: int = 2, on: bool = true, "
            "eps: float = 1e-5) -> (grad_u: T[B,L,D], grad_A: acc[D,N], grad_s: acc[S,K-1,N] if s) "
            "where S = B if not seq, K = 2*M if not s");
}

// What the registry's parser finds in every operation that there is, the declarations find too.
TEST(Declaration, AgreesWithTheParserOfSignatures) {
  for (const Op* op : registry().list()) {
    const Signature& s = op->signature;
    const Declaration d(std::string_view(s.text));
    ASSERT_EQ(d.name(), s.name);
    ASSERT_EQ(d.input_count(), s.inputs.size()) << s.text;
    ASSERT_EQ(d.output_count(), s.outputs.size()) << s.text;
    ASSERT_EQ(d.dim_count(), s.dims.size()) << s.text;
    for (std::size_t i = 0; i < s.inputs.size(); ++i) {
      EXPECT_EQ(d.input_name(i), s.inputs[i].name) << s.text;
      EXPECT_EQ(static_cast<int>(d.input_kind(i)), static_cast<int>(s.inputs[i].kind)) << s.text;
      EXPECT_EQ(d.is_optional(i), s.inputs[i].optional) << s.text;
    }
    for (std::size_t i = 0; i < s.outputs.size(); ++i) EXPECT_EQ(d.output_name(i), s.outputs[i].name) << s.text;
    for (std::size_t i = 0; i < s.dims.size(); ++i) EXPECT_EQ(d.dim_name(i), s.dims[i]) << s.text;
  }
}

TEST(Declaration, RefusesWhatTheParserRefuses) {
  for (const char* text : {"", "f", "f()", "f() -> (", "f(x) -> (y: T[A])", "f(x: T[A) -> (y: T[A])",
                           "f(x: T) -> (y: T[A])", "f(x: T[A]) -> (y: T[A]) extra", "f(x: T[A]) (y: T[A])"}) {
    EXPECT_THROW((void)Declaration(std::string_view(text)), std::invalid_argument) << text;
    EXPECT_THROW((void)Signature::parse(text), Error) << text;
  }
  EXPECT_THROW((void)kMix.derivative({.saved = "nothing", .after = "A"}), std::invalid_argument);
  EXPECT_THROW((void)kMix.derivative({.unused = "nothing"}), std::invalid_argument);
}

constexpr Declaration kScale = "scale_rows(x: T[R,C], by: T[R]?, eps: float, on: bool, n: int) -> (y: T[R,C], r: T[R])";
constexpr Declaration kScaleBackward = kScale.derivative({.unused = "x"});

TEST(CallOf, ReadsArgumentsByName) {
  const Signature signature = Signature::parse(DeclarationText<kScale>::view);
  const std::int64_t shape[] = {2, 3};
  const Tensor x = Tensor::contiguous(nullptr, dtype::f32, shape, 2), y = x;
  const Value inputs[] = {{.tensor = &x}, {.tensor = nullptr}, {.real = 0.5}, {.flag = true}, {.integer = 7}};
  const Tensor outputs[] = {y, Tensor{}};
  const std::int64_t dims[] = {2, 3};
  const OpCall call{signature, default_context(), inputs, outputs, dims};
  const CallOf<kScale> c(call);
  EXPECT_EQ(&c.tensor<"x">(), &x);
  EXPECT_TRUE(c.has<"x">() && !c.has<"by">());
  EXPECT_EQ(c.optional<"by">(), nullptr);
  EXPECT_EQ(c.tensor_or_null<"by">().data, nullptr);
  EXPECT_EQ(c.number<"eps">(), 0.5);
  EXPECT_TRUE(c.flag<"on">());
  EXPECT_EQ(c.integer<"n">(), 7);
  EXPECT_EQ(c.dim<"R">(), 2);
  EXPECT_EQ(c.dim<"C">(), 3);
  EXPECT_EQ(&c.output<"r">(), &outputs[1]);
  EXPECT_EQ(c.named<"by">().name, "by");
  EXPECT_EQ(c.named<"by">().operation, "scale_rows");
}

// scale_rows_backward(grad_y: T[R,C], grad_r: T[R]?, by: T[R]?, eps, on, n): every place is another one.
TEST(CallOf, ADerivativesCallHasTheNamesOfItsOperation) {
  const Signature signature = Signature::parse(DeclarationText<kScaleBackward>::view);
  const std::int64_t shape[] = {2, 3};
  const Tensor grad = Tensor::contiguous(nullptr, dtype::f32, shape, 2);
  const Tensor by = Tensor::contiguous(nullptr, dtype::f32, shape, 1);
  const Value inputs[] = {{.tensor = &grad}, {.tensor = nullptr}, {.tensor = &by},
                          {.real = 0.25},    {.flag = true},      {.integer = 9}};
  const std::int64_t dims[] = {2, 3};
  const OpCall call{signature, default_context(), inputs, {}, dims};
  const InputsOf<kScale> c = CallOf<kScaleBackward>(call).inputs_of<kScale>();
  EXPECT_FALSE(c.has<"x">());  // not an argument of the derivative
  EXPECT_EQ(c.optional<"by">(), &by);
  EXPECT_EQ(c.number<"eps">(), 0.25);
  EXPECT_TRUE(c.flag<"on">());
  EXPECT_EQ(c.integer<"n">(), 9);
  EXPECT_EQ(c.dim<"C">(), 3);
}

}  // namespace
}  // namespace mambasdk
