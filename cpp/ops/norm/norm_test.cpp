// Vector kernels against the reference, the reference against its own differences, and what a norm guarantees.
#include "ops/norm/norm.hpp"

#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::arg;
using testing::Layout;

const Registry& ops() {
  return testing::operations<register_norm>();
}

struct Case {
  std::vector<std::int64_t> shape;
  DType type, residual_type, weight_type;
  Layout layout = Layout::contiguous;
  int group_size = 0;
  bool weight = true, bias = false, residual = false, z = false, norm_before_gate = true;
  bool sigmoid_gate = false;
  DType gate_type = {0, 0};  // that of x where it is nothing

  [[nodiscard]] DType z_type() const { return gate_type.bits == 0 ? type : gate_type; }

  [[nodiscard]] std::string name(const std::string& op) const {
    std::string text = op + " (";
    for (const std::int64_t n : shape) text += std::to_string(n) + ",";
    return concat(text, ") ", dtype_name(type), "/", dtype_name(residual_type), "/", dtype_name(weight_type),
                  " layout ", static_cast<int>(layout), " group ", group_size, " weight ", weight, " bias ", bias,
                  " residual ", residual, " z ", z, " norm_before_gate ", norm_before_gate, " sigmoid_gate ",
                  sigmoid_gate, " ", dtype_name(z_type()));
  }
};

std::vector<Case> cases() {
  constexpr DType f32 = dtype::f32, bf16 = dtype::bf16, f16 = dtype::f16;
  std::vector<Case> all;
  for (const DType type : {f32, bf16, f16}) {
    for (const Layout layout : {Layout::contiguous, Layout::padded, Layout::transposed}) {
      for (int features = 0; features < 32; ++features) {
        all.push_back({{2, 3, 72},
                       type,
                       f32,
                       f32,
                       layout,
                       features % 3 == 0 ? 24 : 0,
                       (features & 1) != 0,
                       (features & 2) != 0,
                       (features & 4) != 0,
                       (features & 8) != 0,
                       (features & 16) != 0});
      }
    }
    for (const DType gate : {f32, bf16, f16}) {
      for (int features = 0; features < 4; ++features) {
        Case c{{5, 72}, type, f32, f32, Layout::contiguous, features & 1 ? 24 : 0, true, true, true, true};
        c.norm_before_gate = (features & 2) != 0;
        c.sigmoid_gate = true;
        c.gate_type = gate;
        all.push_back(c);
        c.sigmoid_gate = false;
        all.push_back(c);
      }
    }
    for (const DType residual : {f32, bf16, f16}) {
      for (const DType weight : {f32, bf16, f16}) {
        all.push_back({{5, 37}, type, residual, weight, Layout::contiguous, 0, true, true, true, true});
      }
    }
    for (const std::vector<std::int64_t>& shape : std::vector<std::vector<std::int64_t>>{
             {16}, {1}, {0}, {0, 8}, {3, 0}, {1, 1}, {4, 1, 3, 9}, {2, 1, 64}, {300, 20}, {3000, 16}, {2, 5000}}) {
      all.push_back({shape, type, f32, f32, Layout::contiguous, 0, true, true, true, true, false});
      all.push_back({shape, type, type, f32, Layout::padded, 0, true, true, true, false});
    }
  }
  return all;
}

// In a row of one element the slope is eps / (v^2 + eps) of its parts, which cancel: eps must not be small beside v^2.
std::vector<Value> forward_args(Arena& arena, const Case& c) {
  const std::int64_t d = c.shape.back();
  return {arg(arena.normal(c.type, c.shape, c.layout)),
          arg(c.weight ? arena.normal(c.weight_type, {d}, c.layout) : nullptr),
          arg(c.bias ? arena.normal(c.weight_type, {d}, c.layout) : nullptr),
          arg(c.residual ? arena.normal(c.residual_type, c.shape, c.layout) : nullptr),
          arg(c.z ? arena.normal(c.z_type(), c.shape, c.layout) : nullptr),
          arg(d == 1 ? 1.0 : 1e-2),
          arg(c.group_size),
          arg(c.norm_before_gate),
          arg(c.sigmoid_gate)};
}

std::vector<Value> backward_args(Arena& arena, const Case& c) {
  std::vector<Value> f = forward_args(arena, c);
  if (c.residual) f[3] = arg(arena.normal(c.residual_type, c.shape, c.layout));  // any residual_out will do
  const Tensor* grad_y = arena.normal(c.type, c.shape, c.layout);
  const Tensor* grad_residual_out = c.residual ? arena.normal(c.residual_type, c.shape, c.layout) : nullptr;
  std::vector<Value> b = {arg(grad_y), arg(grad_residual_out)};
  b.insert(b.end(), f.begin(), f.end());
  return b;
}

class Norm : public ::testing::TestWithParam<const char*> {};

TEST_P(Norm, ForwardMatchesReference) {
  for (const Case& c : cases()) {
    Arena arena(1);
    testing::expect_matches_reference(arena, ops().get(GetParam()), forward_args(arena, c), c.name(GetParam()), 2.0);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Norm, BackwardMatchesReference) {
  const std::string name = GetParam() + std::string("_backward");
  for (const Case& c : cases()) {
    Arena arena(2);
    testing::expect_matches_reference(arena, ops().get(name), backward_args(arena, c), c.name(name), 4.0);
    if (HasFatalFailure()) return;
  }
}

// Central differences of sum(g * output) in float64.
TEST_P(Norm, ReferenceBackwardIsTheDerivative) {
  for (const bool residual : {false, true}) {
    for (const int gate : {0, 1, 2, 3}) {
      const bool norm_before_gate = (gate & 1) != 0;
      Arena arena(3);
      Case c{{3, 8}, dtype::f64, dtype::f64, dtype::f64, Layout::padded,  4,
             true,   true,       residual,   true,       norm_before_gate};
      c.sigmoid_gate = (gate & 2) != 0;
      const std::vector<Value> f = forward_args(arena, c);
      const Tensor* grad_y = arena.normal(c.type, c.shape);
      const Tensor* grad_residual_out = residual ? arena.normal(c.type, c.shape) : nullptr;
      const auto forward = [&] { return testing::call(arena, ops().get(GetParam()), f); };
      const auto loss = [&] {
        const std::vector<Tensor> out = forward();
        return testing::dot(out[0], *grad_y) + (residual ? testing::dot(out[1], *grad_residual_out) : 0.0);
      };
      const Tensor* residual_out = residual ? arena.keep(forward()[1]) : nullptr;
      const std::vector<Tensor> grads = testing::call(
          arena, ops().get(GetParam() + std::string("_backward")),
          {arg(grad_y), arg(grad_residual_out), f[0], f[1], f[2], arg(residual_out), f[4], f[5], f[6], f[7], f[8]});
      for (std::size_t i = 0; i < 5; ++i) {
        if (f[i].tensor == nullptr) continue;
        testing::expect_derivative(*f[i].tensor, grads[i], loss, "input " + std::to_string(i));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(Norm, EveryGroupHasUnitScale) {
  Arena arena(4);
  const Case c{{7, 96}, dtype::f32, dtype::f32, dtype::f32, Layout::contiguous, 32, false};
  std::vector<Value> f = forward_args(arena, c);
  f[5] = arg(0.0);
  const Tensor y = testing::call(arena, ops().get(GetParam()), f)[0];
  for (std::int64_t g = 0; g < y.numel(); g += 32) {
    double sum = 0.0, square = 0.0;
    for (std::int64_t i = g; i < g + 32; ++i) {
      sum += testing::element(y, i);
      square += testing::element(y, i) * testing::element(y, i);
    }
    EXPECT_NEAR(square / 32, 1.0, 1e-5);
    if (GetParam() == std::string("layer_norm")) {
      EXPECT_NEAR(sum, 0.0, 1e-4);
    }
  }
}

// A large common offset: a variance from E[x^2] - E[x]^2 would be lost.
TEST(LayerNorm, KeepsThePrecisionOfOffsetRows) {
  Arena arena(5);
  const Tensor* x = arena.normal(dtype::f32, {4, 256});
  for (std::int64_t i = 0; i < x->numel(); ++i) x->ptr<float>()[i] += 4096.0f;
  testing::expect_matches_reference(arena, ops().get("layer_norm"),
                                    testing::args(x, nullptr, nullptr, nullptr, nullptr, 1e-5, 0, true, false),
                                    "offset", 50.0);
}

TEST_P(Norm, WrongArgumentsAreNamed) {
  Arena arena(6);
  const auto says = [&](double eps, int group, const char* text) {
    const std::vector<Value> f =
        testing::args(arena.normal(dtype::f32, {2, 12}), nullptr, nullptr, nullptr, nullptr, eps, group, true, false);
    try {
      testing::call(arena, ops().get(GetParam()), f);
      ADD_FAILURE() << "no error: " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
  };
  says(1e-5, 5, "group_size is 5, expected a divisor of D = 12");
  says(1e-5, -1, "group_size is -1");
  says(-1.0, 0, "eps is -1");
  says(std::numeric_limits<double>::quiet_NaN(), 0, "eps is nan");
}

INSTANTIATE_TEST_SUITE_P(Both, Norm, ::testing::Values("rms_norm", "layer_norm"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace mambasdk
