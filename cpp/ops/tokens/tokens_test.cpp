// unfold2d against its reference and against what it is for.
#include "ops/tokens/tokens.hpp"

#include "ops/linear/linear.hpp"
#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::args;
using testing::Layout;

const Registry& ops() {
  return testing::operations<register_tokens, register_linear>();
}

constexpr DType kTypes[] = {dtype::f32, dtype::bf16, dtype::f16};
constexpr Layout kLayouts[] = {Layout::contiguous, Layout::padded, Layout::transposed};

struct Window {
  int kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w;
};

TEST(Tokens, UnfoldMatchesReference) {
  const std::vector<Window> windows = {{1, 1, 1, 1, 0, 0}, {16, 16, 16, 16, 0, 0}, {16, 16, 8, 8, 0, 0},
                                       {3, 3, 2, 2, 1, 1}, {4, 4, 4, 4, 0, 0},     {2, 5, 3, 1, 1, 4},
                                       {8, 8, 8, 8, 2, 0}, {3, 17, 1, 2, 0, 1}};
  for (const DType type : kTypes) {
    for (const Layout layout : kLayouts) {
      for (const Window& w : windows) {
        for (const std::int64_t batch : {0, 1, 2}) {
          Arena arena(1);
          testing::expect_matches_reference(arena, ops().get("unfold2d"),
                                            args(arena.normal(type, {batch, 3, 21, 35}, layout), w.kernel_h, w.kernel_w,
                                                 w.stride_h, w.stride_w, w.padding_h, w.padding_w),
                                            concat("unfold2d ", w.kernel_h, "x", w.kernel_w, " ", dtype_name(type),
                                                   " layout ", static_cast<int>(layout)));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// With `linear` it is a convolution.
TEST(Tokens, UnfoldAndLinearAreAConvolution) {
  const std::int64_t C = 2, H = 9, W = 11, O = 5, K = 3;
  Arena arena(2);
  const Tensor* x = arena.normal(dtype::f32, {1, C, H, W});
  const Tensor* weight = arena.normal(dtype::f32, {O, C * K * K});
  const Tensor windows = testing::call(arena, ops().get("unfold2d"), args(x, 3, 3, 2, 2, 1, 1))[0];
  ASSERT_EQ(windows.shape_text(), "(1, 5, 6, 18)");
  const Tensor y = testing::call(arena, ops().get("linear"), args(&windows, weight, nullptr, false))[0];
  for (std::int64_t i = 0; i < 5; ++i) {
    for (std::int64_t j = 0; j < 6; ++j) {
      for (std::int64_t o = 0; o < O; ++o) {
        double sum = 0.0;
        for (std::int64_t c = 0; c < C; ++c) {
          for (std::int64_t u = 0; u < K; ++u) {
            for (std::int64_t v = 0; v < K; ++v) {
              const std::int64_t h = 2 * i + u - 1, w = 2 * j + v - 1;
              if (h < 0 || h >= H || w < 0 || w >= W) continue;
              sum += testing::element(*x, (c * H + h) * W + w) *
                     testing::element(*weight, o * C * K * K + (c * K + u) * K + v);
            }
          }
        }
        ASSERT_NEAR(testing::element(y, (i * 6 + j) * O + o), sum, 1e-5);
      }
    }
  }
}

TEST(Tokens, UnfoldNamesWrongWindows) {
  Arena arena(3);
  const Tensor* x = arena.normal(dtype::f32, {1, 1, 6, 7});
  const auto message = [&](int kernel, int stride, int padding) -> std::string {
    try {
      testing::call(arena, ops().get("unfold2d"), args(x, kernel, 1, stride, 1, padding, 0));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(message(7, 1, 0).find("kernel_h is 7, expected at most 6, the height of x"), std::string::npos);
  EXPECT_NE(message(0, 1, 0).find("kernel_h is 0, expected at least 1"), std::string::npos);
  EXPECT_NE(message(1, 0, 0).find("stride_h is 0, expected at least 1"), std::string::npos);
  EXPECT_NE(message(1, 1, -1).find("padding_h is -1, expected at least 0"), std::string::npos);
}

}  // namespace
}  // namespace mambasdk
