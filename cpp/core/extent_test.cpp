#include "core/extent.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace mambasdk {
namespace {

constexpr std::int64_t kMost = INT64_MAX;

TEST(Extent, SumsAndProductsThatFit) {
  EXPECT_EQ((Extent(3) * 5 + 2 - 1).value(), 16);
  EXPECT_EQ((Extent(kMost) * 1 + 0).value(), kMost);
  EXPECT_EQ((Extent(std::int64_t{1} << 31) * (std::int64_t{1} << 31)).value(), std::int64_t{1} << 62);
  EXPECT_EQ((Extent(0) * kMost).bytes(), 0U);
}

TEST(Extent, WhatDoesNotFitIsAnError) {
  EXPECT_THROW(Extent(kMost) + 1, Error);
  EXPECT_THROW(Extent(-2) - kMost, Error);
  EXPECT_THROW(Extent(std::int64_t{1} << 32) * (std::int64_t{1} << 31), Error);
  EXPECT_THROW(Extent(UINT64_MAX), Error);
  EXPECT_THROW((void)Extent(-1).bytes(), Error);
  Extent size = kMost;
  EXPECT_THROW(size *= 2, Error);
  EXPECT_EQ(size.value(), kMost);  // unchanged
}

TEST(Extent, RoundedUp) {
  for (const std::int64_t value : {0, 1, 63, 64, 65}) {
    EXPECT_EQ(Extent(value).rounded_up(64).value(), (value + 63) / 64 * 64);
  }
  EXPECT_THROW((void)Extent(kMost).rounded_up(64), Error);
}

}  // namespace
}  // namespace mambasdk
