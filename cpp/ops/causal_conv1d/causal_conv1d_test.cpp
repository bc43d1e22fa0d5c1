// Vector kernels against the reference, the reference against its own differences, and the state contract.
#include "ops/causal_conv1d/causal_conv1d.hpp"

#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::args;
using testing::Layout;

const Registry& ops() {
  return testing::operations<register_causal_conv1d>();
}

struct Case {
  std::int64_t batch, length, channels;
  int width;
  DType type, weight_type;
  Layout layout = Layout::contiguous;
  bool bias = true, initial = true, silu = true;
  std::vector<std::int32_t> cu_seqlens = {};
  bool reverse = false;

  [[nodiscard]] std::int64_t sequences() const {
    return cu_seqlens.empty() ? batch : static_cast<std::int64_t>(cu_seqlens.size()) - 1;
  }
  [[nodiscard]] std::string name() const {
    return concat("B", batch, " L", length, " D", channels, " K", width, " ", dtype_name(type), "/",
                  dtype_name(weight_type), " layout ", static_cast<int>(layout), " S", sequences(),
                  reverse ? " reverse" : "");
  }
};

std::vector<Case> cases() {
  constexpr DType f32 = dtype::f32, bf16 = dtype::bf16, f16 = dtype::f16;
  std::vector<Case> all;
  for (const int width : {1, 2, 3, 4, 5, 6, 7, 8, 9, 17}) {
    all.push_back({2, 19, 24, width, f32, f32});
    all.push_back({1, 131, 5, width, bf16, f32, Layout::transposed, true, false, false});
  }
  for (const DType type : {f32, bf16, f16}) {
    for (const DType weight : {f32, bf16, f16}) {
      for (const Layout layout : {Layout::contiguous, Layout::padded, Layout::transposed}) {
        all.push_back({2, 37, 70, 4, type, weight, layout});
      }
    }
    all.push_back({1, 300, 130, 4, type, f32, Layout::contiguous, false, false, true});
    all.push_back({1, 0, 16, 4, type, f32});  // nothing to do, but states to pass on
    all.push_back({0, 5, 16, 4, type, f32});
    all.push_back({3, 1, 16, 4, type, f32});
    all.push_back({3, 2, 17, 8, type, f32});  // shorter than the window
    all.push_back({1, 128, 0, 4, type, f32});
    all.push_back({1, 300, 33, 4, type, f32, Layout::padded, true, true, true, {0, 0, 1, 3, 3, 140, 298, 300}});
    all.push_back({1, 300, 16, 5, type, f32, Layout::contiguous, true, false, true, {0, 128, 256, 300}});
    all.push_back({1, 0, 16, 4, type, f32, Layout::contiguous, true, true, true, {0}});
    all.push_back({1,
                   600,
                   16,
                   3,
                   type,
                   f32,
                   Layout::contiguous,
                   true,
                   true,
                   false,
                   {0, 10, 20, 30, 40, 60, 80, 90, 100, 300, 310, 320, 600}});
    all.push_back({400, 10, 64, 4, type, f32});  // many short sequences share a work item
  }
  const std::size_t forward = all.size();
  for (std::size_t i = 0; i < forward; ++i) {
    all.push_back(all[i]);
    all.back().reverse = true;
  }
  return all;
}

std::vector<Value> forward_args(Arena& arena, const Case& c) {
  const std::int64_t state = c.width - 1;
  return args(arena.normal(c.type, {c.batch, c.length, c.channels}, c.layout),
              arena.normal(c.weight_type, {c.channels, c.width}, c.layout, 0.5),
              c.bias ? arena.normal(c.weight_type, {c.channels}, c.layout) : nullptr,
              c.initial ? arena.normal(c.type, {c.sequences(), state, c.channels}, c.layout) : nullptr,
              c.cu_seqlens.empty() ? nullptr : arena.integers(c.cu_seqlens), c.silu, true, c.reverse, nullptr, nullptr);
}

std::vector<Value> backward_args(Arena& arena, const Case& c, bool final_state) {
  const std::vector<Value> f = forward_args(arena, c);
  return {
      testing::arg(arena.normal(c.type, {c.batch, c.length, c.channels}, c.layout)),
      testing::arg(final_state ? arena.normal(c.type, {c.sequences(), c.width - 1, c.channels}, c.layout) : nullptr),
      f[0],
      f[1],
      f[2],
      f[3],
      f[4],
      f[5],
      testing::arg(c.reverse),
      testing::arg(nullptr),
      testing::arg(nullptr)};
}

TEST(CausalConv1d, ForwardMatchesReference) {
  for (const Case& c : cases()) {
    Arena arena(1);
    testing::expect_matches_reference(arena, ops().get("causal_conv1d"), forward_args(arena, c), c.name());
    if (HasFatalFailure()) return;
  }
}

TEST(CausalConv1d, BackwardMatchesReference) {
  for (const Case& c : cases()) {
    for (const bool final_state : {false, true}) {
      Arena arena(2);
      testing::expect_matches_reference(arena, ops().get("causal_conv1d_backward"),
                                        backward_args(arena, c, final_state), c.name(), 2.0);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(CausalConv1d, UpdateAndItsBackwardMatchReference) {
  for (const DType type : {dtype::f32, dtype::bf16, dtype::f16}) {
    for (const Layout layout : {Layout::contiguous, Layout::padded, Layout::transposed}) {
      for (const std::int64_t batch : {0, 1, 5}) {
        Arena arena(3);
        const Tensor* state = arena.normal(type, {batch, 3, 50}, layout);
        const Tensor* x = arena.normal(type, {batch, 50}, layout);
        const Tensor* weight = arena.normal(dtype::f32, {50, 4}, layout);
        const Tensor* bias = arena.normal(dtype::f32, {50}, layout);
        testing::expect_matches_reference(arena, ops().get("causal_conv1d_update"),
                                          args(state, x, weight, bias, true, nullptr, nullptr, -1), "update");
        const Tensor* grad_y = arena.normal(type, {batch, 50}, layout);
        const Tensor* grad_state = arena.normal(type, {batch, 3, 50}, layout);
        testing::expect_matches_reference(arena, ops().get("causal_conv1d_update_backward"),
                                          args(grad_y, grad_state, state, x, weight, bias, true, nullptr, nullptr, -1),
                                          "update_backward");
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Central differences of sum(g * output) in float64.
TEST(CausalConv1d, ReferenceBackwardIsTheDerivative) {
  for (const bool reverse : {false, true}) {
    Arena arena(4);
    const Case c{1, 11, 3, 4, dtype::f64, dtype::f64, Layout::padded, true, true, true, {0, 2, 2, 7, 11}, reverse};
    const std::vector<Value> f = forward_args(arena, c);
    const Tensor* grad_y = arena.normal(c.type, {1, 11, 3});
    const Tensor* grad_final = arena.normal(c.type, {4, 3, 3});
    const auto loss = [&] {
      const std::vector<Tensor> out = testing::call(arena, ops().get("causal_conv1d"), f);
      double sum = 0.0;
      for (std::int64_t i = 0; i < out[0].numel(); ++i)
        sum += testing::element(out[0], i) * testing::element(*grad_y, i);
      for (std::int64_t i = 0; i < out[1].numel(); ++i) {
        sum += testing::element(out[1], i) * testing::element(*grad_final, i);
      }
      return sum;
    };
    const std::vector<Value> b = {
        testing::arg(grad_y),  testing::arg(grad_final), f[0], f[1], f[2], f[3], f[4], f[5], testing::arg(reverse),
        testing::arg(nullptr), testing::arg(nullptr)};
    const std::vector<Tensor> grads = testing::call(arena, ops().get("causal_conv1d_backward"), b);
    for (std::size_t i = 0; i < 4; ++i) {
      const Tensor& input = *f[i].tensor;
      for (std::int64_t j = 0; j < input.numel(); ++j) {
        const double x = testing::element(input, j);
        const double h = 1e-5;
        store_element(input.data, c.type, testing::offset_of(input, j), x + h);
        const double above = loss();
        store_element(input.data, c.type, testing::offset_of(input, j), x - h);
        const double below = loss();
        store_element(input.data, c.type, testing::offset_of(input, j), x);
        ASSERT_NEAR(testing::element(grads[i], j), (above - below) / (2 * h), 1e-7)
            << ops().get("causal_conv1d_backward").signature.outputs[i].name << "[" << j << "]";
      }
    }
  }
}

// A reversed call is the forward one on a sequence whose time runs the other way, to the bit.
TEST(CausalConv1d, ReversedIsTheConvolutionOfTheMirroredSequence) {
  for (const std::vector<std::int32_t>& offsets : {std::vector<std::int32_t>{}, {0, 2, 2, 90, 150}}) {
    for (const int width : {2, 4, 8}) {
      Arena arena(8);
      Case c{1, 150, 21, width, dtype::f32, dtype::f32, Layout::contiguous, true, true, true, offsets, true};
      const std::vector<Value> f = forward_args(arena, c);
      const std::vector<Tensor> got = testing::call(arena, ops().get("causal_conv1d"), f);
      std::vector<Value> mirrored = f;
      mirrored[0].tensor = arena.keep(f[0].tensor->mirrored(1));
      if (!offsets.empty()) {
        mirrored[3].tensor = arena.keep(f[3].tensor->mirrored(0));
        mirrored[4].tensor = arena.integers({0, 60, 148, 148, 150});
      }
      mirrored[7].flag = false;
      const std::vector<Tensor> expected = testing::call(arena, ops().get("causal_conv1d"), mirrored);
      const Tensor y = expected[0].mirrored(1);
      for (std::int64_t i = 0; i < y.numel(); ++i) ASSERT_EQ(testing::element(got[0], i), testing::element(y, i));
      const Tensor state = offsets.empty() ? expected[1] : expected[1].mirrored(0);
      for (std::int64_t i = 0; i < state.numel(); ++i) {
        ASSERT_EQ(testing::element(got[1], i), testing::element(state, i));
      }
    }
  }
}

TEST(CausalConv1d, ContinuesFromItsStateInPiecesAndSteps) {
  Arena arena(5);
  const Case c{2, 20, 18, 4, dtype::f32, dtype::f32};
  const std::vector<Value> f = forward_args(arena, c);
  const std::vector<Tensor> whole = testing::call(arena, ops().get("causal_conv1d"), f);
  const auto part = [&](const Tensor& t, std::int64_t begin, std::int64_t end) {
    Tensor view = t;
    view.shape[1] = end - begin;
    view.data = t.ptr<float>() + begin * t.stride(1);
    return arena.keep(view);
  };
  const Tensor* state = f[3].tensor;
  std::int64_t begin = 0;
  for (const std::int64_t end : {2, 9, 9, 15}) {
    std::vector<Value> piece = f;
    piece[0].tensor = part(*f[0].tensor, begin, end);
    piece[3].tensor = state;
    const std::vector<Tensor> out = testing::call(arena, ops().get("causal_conv1d"), piece);
    testing::expect_close(out[0], *part(whole[0], begin, end), "piece");
    state = arena.keep(out[1]);
    begin = end;
  }
  Tensor moving = *state;  // updated in place from here on
  for (std::int64_t t = 15; t < 20; ++t) {
    Tensor x = *part(*f[0].tensor, t, t + 1);
    x.ndim = 2;
    x.shape = {2, 18};
    x.strides = {x.strides[0], x.strides[2]};
    const std::vector<Value> step =
        args(arena.keep(moving), arena.keep(x), f[1].tensor, f[2].tensor, true, nullptr, nullptr, -1);
    const Tensor y = arena.empty(dtype::f32, {2, 18});
    ops().get("causal_conv1d_update").call(default_context(), step, std::vector<Tensor>{y, moving});
    testing::expect_close(y, *part(whole[0], t, t + 1), "step");
  }
  EXPECT_EQ(std::memcmp(moving.data, whole[1].data, static_cast<std::size_t>(moving.nbytes())), 0);
}

std::string error_of(const std::string& name, const std::vector<Value>& inputs) {
  Arena arena(6);
  try {
    testing::call(arena, ops().get(name), inputs);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "no error";
}

TEST(CausalConv1d, WrongArgumentsAreNamed) {
  Arena arena(7);
  const auto with = [&](std::int64_t batch, int width, const std::vector<std::int32_t>& offsets) {
    return args(arena.normal(dtype::f32, {batch, 6, 4}), arena.normal(dtype::f32, {4, width}), nullptr, nullptr,
                offsets.empty() ? nullptr : arena.integers(offsets), false, false, false, nullptr, nullptr);
  };
  const auto says = [&](const std::vector<Value>& inputs, const char* text) {
    const std::string message = error_of("causal_conv1d", inputs);
    EXPECT_NE(message.find(text), std::string::npos) << message;
  };
  says(with(1, 0, {}), "weight has 0 taps, expected at least 1");
  says(with(2, 4, {0, 6}), "x has batch 2, expected 1 with cu_seqlens");
  says(with(1, 4, {1, 6}), "cu_seqlens[0] is 1, expected 0");
  says(with(1, 4, {0, 5}), "cu_seqlens ends with 5, expected 6");
  says(with(1, 4, {0, 7, 3, 6}), "cu_seqlens[2] is 3, expected at least 7");
}

}  // namespace
}  // namespace mambasdk
