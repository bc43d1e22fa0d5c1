// Accuracy of the vector mathematics against double, on every instruction set, over dense samples and special values.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/error.hpp"
#include "core/simd_check.hpp"

namespace mambasdk {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kSmallest = 0x1p-126;  // of normal floats

class Simd : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (GetParam() > static_cast<int>(detected_isa())) GTEST_SKIP() << "this machine has no such instructions";
    set_max_isa(static_cast<Isa>(GetParam()));
  }
  void TearDown() override { set_max_isa(detected_isa()); }

  static std::vector<float> evaluate(SimdFunction function, const std::vector<float>& x) {
    std::vector<float> y(x.size(), kNan);
    MAMBASDK_PICK(simd_evaluate)(function, x.data(), y.data(), static_cast<std::int64_t>(x.size()));
    return y;
  }
  static float evaluate(SimdFunction function, float x) { return evaluate(function, std::vector<float>{x})[0]; }

  // |got - expected| <= (relative + per_unit |x|) |expected| + absolute, everywhere.
  template <class F>
  static void expect_accurate(SimdFunction function, const std::vector<float>& x, F&& expected, double relative,
                              double absolute = 0.0, double per_unit = 0.0) {
    const std::vector<float> y = evaluate(function, x);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double truth = expected(static_cast<double>(x[i]));
      if (std::abs(truth) > 3.4028235e38) {  // rounds to infinity, or nearly
        ASSERT_GE(std::abs(y[i]), 3.4e38f) << "f(" << x[i] << ")";
        continue;
      }
      ASSERT_LE(std::abs(static_cast<double>(y[i]) - truth),
                (relative + per_unit * std::abs(x[i])) * std::abs(truth) + absolute)
          << "f(" << x[i] << ") is " << y[i] << ", expected " << truth;
    }
  }
};

std::vector<float> evenly(double from, double to, int count) {
  std::vector<float> x;
  for (int i = 0; i <= count; ++i) x.push_back(static_cast<float>(from + (to - from) * i / count));
  return x;
}

// Positive floats of every exponent in the range.
std::vector<float> logarithmic(float from, float to) {
  std::vector<float> x;
  for (float v = from; v < to; v *= 1.0007f) x.push_back(v);
  return x;
}

TEST_P(Simd, Exp2) {
  expect_accurate(SimdFunction::exp2, evenly(-126.0, 128.0, 200000), [](double x) { return std::exp2(x); }, 2e-7);
  expect_accurate(
      SimdFunction::exp2, evenly(-150.0, -126.0, 20000), [](double x) { return std::exp2(x); }, 2e-7,
      0x1p-149);  // subnormal results have fewer bits
  expect_accurate(SimdFunction::exp2, logarithmic(1e-30f, 1.0f), [](double x) { return std::exp2(x); }, 2e-7);
  EXPECT_EQ(evaluate(SimdFunction::exp2, kInf), kInf);
  EXPECT_EQ(evaluate(SimdFunction::exp2, -kInf), 0.0f);
  EXPECT_EQ(evaluate(SimdFunction::exp2, 1e30f), kInf);
  EXPECT_EQ(evaluate(SimdFunction::exp2, -1e30f), 0.0f);
  EXPECT_EQ(evaluate(SimdFunction::exp2, -160.0f), 0.0f);
  EXPECT_TRUE(std::isnan(evaluate(SimdFunction::exp2, kNan)));
}

TEST_P(Simd, Exp) {
  expect_accurate(SimdFunction::exp, evenly(-87.3, 88.7, 200000), [](double x) { return std::exp(x); }, 2e-7);
  expect_accurate(
      SimdFunction::exp, evenly(-103.9, -87.3, 20000), [](double x) { return std::exp(x); }, 2e-7, 0x1p-149);
  expect_accurate(SimdFunction::exp, logarithmic(1e-30f, 1.0f), [](double x) { return std::exp(x); }, 2e-7);
  EXPECT_EQ(evaluate(SimdFunction::exp, 0.0f), 1.0f);
  EXPECT_EQ(evaluate(SimdFunction::exp, kInf), kInf);
  EXPECT_EQ(evaluate(SimdFunction::exp, -kInf), 0.0f);
  EXPECT_EQ(evaluate(SimdFunction::exp, 1e30f), kInf);
  EXPECT_EQ(evaluate(SimdFunction::exp, -1e30f), 0.0f);
  EXPECT_TRUE(std::isnan(evaluate(SimdFunction::exp, kNan)));
}

TEST_P(Simd, Log) {
  expect_accurate(SimdFunction::log, logarithmic(1.2e-38f, 3.4e38f), [](double x) { return std::log(x); }, 3e-7, 1e-9);
  expect_accurate(SimdFunction::log, evenly(0.5, 2.0, 100000), [](double x) { return std::log(x); }, 3e-7, 1e-9);
}

TEST_P(Simd, Log1p) {
  expect_accurate(SimdFunction::log1p, logarithmic(1e-30f, 1e30f), [](double x) { return std::log1p(x); }, 4e-7);
  expect_accurate(SimdFunction::log1p, evenly(0.0, 3.0, 100000), [](double x) { return std::log1p(x); }, 4e-7);
  EXPECT_EQ(evaluate(SimdFunction::log1p, 0.0f), 0.0f);
  EXPECT_TRUE(std::isnan(evaluate(SimdFunction::log1p, kNan)));
}

TEST_P(Simd, Softplus) {
  const auto softplus = [](double x) { return x > 20.0 ? x : std::log1p(std::exp(x)); };
  expect_accurate(SimdFunction::softplus, evenly(-87.0, 30.0, 200000), softplus, 6e-7);
  expect_accurate(SimdFunction::softplus, evenly(-103.0, -87.0, 10000), softplus, 6e-7, 0x1p-149);
  EXPECT_EQ(evaluate(SimdFunction::softplus, 1e30f), 1e30f);
  EXPECT_EQ(evaluate(SimdFunction::softplus, kInf), kInf);
  EXPECT_EQ(evaluate(SimdFunction::softplus, -kInf), 0.0f);
  EXPECT_TRUE(std::isnan(evaluate(SimdFunction::softplus, kNan)));
}

TEST_P(Simd, SigmoidAndSilu) {
  const auto sigmoid = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
  const auto silu = [&](double x) { return x * sigmoid(x); };
  expect_accurate(SimdFunction::sigmoid, evenly(-80.0, 100.0, 200000), sigmoid, 3e-7, 0.0, 1e-7);
  expect_accurate(SimdFunction::silu, evenly(-80.0, 100.0, 200000), silu, 3e-7, 0.0, 1e-7);
  expect_accurate(SimdFunction::silu, logarithmic(1e-30f, 1.0f), silu, 4e-7, kSmallest);
  // Far out only the size of the result matters.
  expect_accurate(SimdFunction::sigmoid, evenly(-1000.0, -80.0, 1000), sigmoid, 1.0, 1e-34);
  expect_accurate(SimdFunction::silu, evenly(-1000.0, -80.0, 1000), silu, 1.0, 1e-32);
  EXPECT_EQ(evaluate(SimdFunction::sigmoid, kInf), 1.0f);
  EXPECT_EQ(evaluate(SimdFunction::sigmoid, -kInf), 0.0f);
  EXPECT_EQ(evaluate(SimdFunction::silu, 0.0f), 0.0f);
  EXPECT_EQ(evaluate(SimdFunction::silu, kInf), kInf);
  EXPECT_EQ(evaluate(SimdFunction::silu, 1e30f), 1e30f);
  EXPECT_EQ(std::abs(evaluate(SimdFunction::silu, -1e30f)), 0.0f);
  EXPECT_TRUE(std::isnan(evaluate(SimdFunction::sigmoid, kNan)));
  EXPECT_TRUE(std::isnan(evaluate(SimdFunction::silu, kNan)));
}

// Every 16-bit value survives, and what lies between two goes where the scalar conversion puts it.
template <class H>
std::vector<float> around_every_half() {
  std::vector<float> x;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = to_float(H{static_cast<std::uint16_t>(bits)});
    x.push_back(value);
    if (!std::isfinite(value)) continue;
    const float next = to_float(H{static_cast<std::uint16_t>(bits + 1)});
    const float middle = value + (next - value) * 0.5f;
    x.insert(x.end(), {middle, std::nextafter(middle, kInf), std::nextafter(middle, -kInf)});
  }
  const std::vector<float> more = {65504.0f, 65519.9f, 65520.0f, 1e10f, -1e10f,
                                   3.4e38f,  1e-45f,   -1e-40f,  1e-8f, 2.9e-8f};
  x.insert(x.end(), more.begin(), more.end());
  return x;
}

template <class H>
void expect_same_rounding(const std::vector<float>& x, const std::vector<float>& y) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float expected = to_float(from_float<H>::cast(x[i]));
    if (std::isnan(x[i])) {
      ASSERT_TRUE(std::isnan(y[i]));
    } else {
      ASSERT_EQ(std::memcmp(&y[i], &expected, sizeof(float)), 0)
          << x[i] << " became " << y[i] << ", expected " << expected;
    }
  }
}

TEST_P(Simd, Bf16AndF16Conversion) {
  const std::vector<float> b = around_every_half<bf16>();
  expect_same_rounding<bf16>(b, evaluate(SimdFunction::round_bf16, b));
  const std::vector<float> h = around_every_half<f16>();
  expect_same_rounding<f16>(h, evaluate(SimdFunction::round_f16, h));
}

TEST_P(Simd, PartialVectorsTouchOnlyTheirElements) {
  for (std::int64_t n = 0; n < 40; ++n) {
    std::vector<float> x(static_cast<std::size_t>(n) + 1, 1.0f);
    x.back() = kNan;
    EXPECT_EQ(MAMBASDK_PICK(simd_sum)(x.data(), n), static_cast<float>(n));
    std::vector<float> y(static_cast<std::size_t>(n) + 1, 7.0f);
    MAMBASDK_PICK(simd_evaluate)(SimdFunction::exp2, x.data(), y.data(), n);
    EXPECT_EQ(y.back(), 7.0f);
  }
}

// The scalar conversion itself: to the nearest, ties to even, checked through doubles.
TEST(Half, ScalarConversionRoundsToNearestEven) {
  for (const float x : around_every_half<f16>()) {
    if (!std::isfinite(x) || std::abs(x) >= 65520.0f) continue;
    const double ulp =
        std::max(std::exp2(std::floor(std::log2(std::max(std::abs(static_cast<double>(x)), 1e-300))) - 10.0), 0x1p-24);
    const double exact = std::nearbyint(static_cast<double>(x) / ulp) * ulp;
    ASSERT_EQ(static_cast<double>(to_float(from_float<f16>::cast(x))), exact) << x;
  }
  EXPECT_EQ(from_float<f16>::cast(65520.0f).bits, 0x7c00);
  EXPECT_EQ(from_float<f16>::cast(65519.9f).bits, 0x7bff);
  EXPECT_EQ(from_float<bf16>::cast(3.4e38f).bits, 0x7f80);
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, Simd, ::testing::Range(0, kIsaCount),
                         [](const auto& test) { return std::string(isa_name(static_cast<Isa>(test.param))); });

}  // namespace
}  // namespace mambasdk
