// Expressions over dims: what they are worth, what has no value, and what is refused with its place.
#include "core/dim_expression.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/error.hpp"

namespace mambasdk {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

// With B = 6 and L = 7 and no other dim.
DimExpr read(const std::string& text, bool in_program = true) {
  std::size_t at = 0;
  DimExpr e = read_dim_expression(
      text, at,
      {.dim = [](const std::string& name) -> std::int64_t {
         if (name == "B" || name == "L") return name == "B" ? 0 : 1;
         fail(ErrorCode::corrupt, "no dim ", name);
       },
       .mistake = [&](std::string_view expected) { fail(ErrorCode::corrupt, "expected ", expected, " at ", at); },
       .in_program = in_program});
  EXPECT_EQ(at, text.size()) << text;
  return e;
}

std::optional<std::int64_t> value(const std::string& text, std::vector<std::int64_t> dims = {6, 7}) {
  return read(text).evaluate(dims);
}

TEST(DimExpression, Values) {
  EXPECT_EQ(value("B"), 6);
  EXPECT_EQ(value("2*B + L"), 19);
  EXPECT_EQ(value("((12))"), 12);
}

TEST(DimExpression, FloorDivisionAndRemainderRoundDown) {
  EXPECT_EQ(value("(B - L)//2"), -1);
  EXPECT_EQ(value("(B - L)%2"), 1);
  EXPECT_EQ(value("L//(B - L)"), -7);
  EXPECT_EQ(value("L%(B - 8)"), -1);
  EXPECT_EQ(value("min(B, max(L, 3)) - -2"), 8);
}

TEST(DimExpression, NoValue) {
  EXPECT_EQ(value("B//(L - 7)"), std::nullopt);
  EXPECT_EQ(value("B%(L - 7)"), std::nullopt);
  EXPECT_EQ(value("B*L", {kMost, 2}), std::nullopt);
  EXPECT_EQ(value("B + L", {kMost, 1}), std::nullopt);
  EXPECT_EQ(value("B", {-1, 0}), std::nullopt);
  EXPECT_EQ(value("(-B - 1)//(L - 2)", {kMost, 1}), std::nullopt) << "the least number has no opposite";
}

TEST(DimExpression, MistakesAreRefused) {
  for (const char* text : {"", "B +", "(B", "max(B)", "*B", "B//", "Q", "B - - ", "min(B, L"}) {
    EXPECT_THROW((void)read(text), Error) << text;
  }
  EXPECT_THROW((void)read(std::string(100, '(') + "B" + std::string(100, ')')), Error);
  EXPECT_THROW((void)read(std::string(100, '-') + "B"), Error);
}

TEST(DimExpression, DeclarationsHaveFewerOperators) {
  for (const char* text : {"-B", "min(B, L)"}) EXPECT_THROW((void)read(text, false), Error) << text;
  std::size_t at = 0;
  (void)read_dim_expression("B % L", at, {.dim = [](const std::string&) { return 0; }, .mistake = [](auto) {}});
  EXPECT_EQ(at, 2U);
}

}  // namespace
}  // namespace mambasdk
