// Calls against their signatures: binding, planning, errors, the choice of kernel. On operations made for the purpose.
#include <gtest/gtest.h>

#include "core/registry.hpp"

namespace mambasdk {
namespace {

Tensor shaped(std::vector<std::int64_t> shape, DType type = dtype::f32) {
  static float memory[4096];
  return Tensor::contiguous(memory, type, shape.data(), static_cast<int>(shape.size()));
}

Value value(const Tensor& t) {
  Value v{};
  v.tensor = &t;
  return v;
}

Value none() {
  Value v{};
  v.tensor = nullptr;
  return v;
}

Value flag(bool on) {
  Value v{};
  v.flag = on;
  return v;
}

std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

class OpTest : public testing::Test {
 protected:
  void SetUp() override {
    registry_.define({.signature = "mix(u: T[B,L,D], A: acc[D,N], s: acc[S,K-1,N]?, seq: i32[S+1]?, w: W[D,K]?, "
                                   "keep: bool = false) -> (y: T[B,L,D], last: acc[S,N] if keep, gw: W[D,K] if w) "
                                   "where S = B if not seq, K = 4 if not w",
                      .doc = "for tests",
                      .reference = [this](const OpCall&) { ran_ = "reference"; },
                      .cpu = [this](const OpCall&) { ran_ = "cpu"; }});
  }
  Registry registry_;
  std::string ran_;
};

TEST_F(OpTest, PlansOutputsFromInputs) {
  const Op& op = registry_.get("mix");
  const Tensor u = shaped({2, 5, 3}, dtype::bf16), A = shaped({3, 4}), s = shaped({2, 3, 4});
  const Value plain[] = {value(u), value(A), none(), none(), none(), flag(false)};
  Op::Plan plan = op.plan(plain);
  EXPECT_EQ(plan.outputs[0].shape_text(), "(2, 5, 3)");
  EXPECT_EQ(plan.outputs[0].dtype, dtype::bf16);
  EXPECT_EQ(plan.outputs[1].shape_text(), "(0,)");
  const Value full[] = {value(u), value(A), value(s), none(), none(), flag(true)};
  plan = op.plan(full);
  EXPECT_EQ(plan.outputs[1].shape_text(), "(2, 4)");
  EXPECT_EQ(plan.outputs[1].dtype, dtype::f32);
}

TEST_F(OpTest, AnExtentWithAnOffsetBindsItsDim) {
  const Op& op = registry_.get("mix");
  const Tensor u = shaped({1, 5, 3}), A = shaped({3, 4}), seq = shaped({4}, dtype::i32);
  const Value values[] = {value(u), value(A), none(), value(seq), none(), flag(true)};
  EXPECT_EQ(op.plan(values).outputs[1].shape_text(), "(3, 4)");
}

TEST_F(OpTest, ErrorsNameOperationArgumentExpectedAndGot) {
  const Op& op = registry_.get("mix");
  const Tensor u = shaped({2, 5, 3}), A = shaped({7, 4});
  const Value wrong_dim[] = {value(u), value(A), none(), none(), none(), flag(false)};
  EXPECT_EQ(message([&] { (void)op.plan(wrong_dim); }),
            "mix: A is (7, 4), expected (3, 4): D is 3 in u; its dims are (D, N)");
  const Tensor flat = shaped({3});
  const Value wrong_rank[] = {value(u), value(flat), none(), none(), none(), flag(false)};
  EXPECT_NE(message([&] { (void)op.plan(wrong_rank); }).find("mix: A is (3,), expected (3, N)"), std::string::npos);
  const Tensor half = shaped({3, 4}, dtype::f16);
  const Value wrong_type[] = {value(u), value(half), none(), none(), none(), flag(false)};
  EXPECT_EQ(message([&] { (void)op.plan(wrong_type); }), "mix: A is f16, expected f32: u is f32");
  const Value missing[] = {value(u), none(), none(), none(), none(), flag(false)};
  EXPECT_EQ(message([&] { (void)op.plan(missing); }), "mix: A is missing");
  Tensor elsewhere = shaped({3, 4});
  elsewhere.device = Device::cuda;
  const Value apart[] = {value(u), value(elsewhere), none(), none(), none(), flag(false)};
  EXPECT_EQ(message([&] { (void)op.plan(apart); }),
            "mix: A is on cuda:0, expected the CPU, where u is; move them to one device");
  const Tensor three = shaped({3, 3, 4}), good = shaped({3, 4});
  const Value rule[] = {value(u), value(good), value(three), none(), none(), flag(true)};
  EXPECT_NE(message([&] { (void)op.plan(rule); }).find("s is (3, 3, 4), but without seq its S must be B = 2"),
            std::string::npos);
}

TEST_F(OpTest, DoublesRunOnTheReferenceAndAccumulateInDouble) {
  const Op& op = registry_.get("mix");
  const Tensor u = shaped({1, 1, 2}, dtype::f64), A = shaped({2, 2}, dtype::f64), y = shaped({1, 1, 2}, dtype::f64);
  const Tensor absent = shaped({0});
  const Value values[] = {value(u), value(A), none(), none(), none(), flag(false)};
  const Tensor outputs[] = {y, absent, absent};
  op.call(default_context(), values, outputs);
  EXPECT_EQ(ran_, "reference");
}

TEST_F(OpTest, OutputsMustBeAsPlanned) {
  const Op& op = registry_.get("mix");
  const Tensor u = shaped({1, 1, 2}), A = shaped({2, 2}), absent = shaped({0});
  const Value values[] = {value(u), value(A), none(), none(), none(), flag(false)};
  const Tensor wrong[] = {shaped({1, 2, 2}), absent, absent};
  EXPECT_NE(message([&] { op.call(default_context(), values, wrong); }).find("output y is f32 (1, 2, 2)"),
            std::string::npos);
  const Tensor right[] = {shaped({1, 1, 2}), absent, absent};
  op.call(default_context(), values, right);
  EXPECT_EQ(ran_, "cpu");
}

TEST_F(OpTest, NamesAreUniqueAndNearMissesAreNamed) {
  EXPECT_NE(message([&] {
              registry_.define({.signature = "mix(x: T[A]) -> (y: T[A])", .doc = ""}, "other");
            }).find("already registered by mambasdk; other must choose another name"),
            std::string::npos);
  EXPECT_NE(message([&] { (void)registry_.get("mixx"); }).find("did you mean mix?"), std::string::npos);
}

TEST_F(OpTest, TheDerivativeIsFoundInEitherOrder) {
  registry_.define({.signature = "later_backward(grad_y: T[A]) -> (grad_x: T[A])", .doc = ""});
  registry_.define({.signature = "later(x: T[A]) -> (y: T[A])", .doc = ""});
  EXPECT_EQ(registry_.get("later").backward, registry_.find("later_backward"));
  registry_.define({.signature = "mix_backward(grad_y: T[A]) -> (grad_u: T[A])", .doc = ""});
  EXPECT_EQ(registry_.get("mix").backward, registry_.find("mix_backward"));
}

}  // namespace
}  // namespace mambasdk
