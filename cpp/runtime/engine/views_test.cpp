#include "runtime/engine/views.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "core/error.hpp"

namespace mambasdk::runtime {
namespace {

std::vector<float> values(const Tensor& t) {
  std::vector<float> out(static_cast<std::size_t>(t.numel()));
  copy_strided(t, out.data());
  return out;
}

class ViewsTest : public testing::Test {
 protected:
  ViewsTest() : memory_(120) { std::iota(memory_.begin(), memory_.end(), 0.0f); }
  Tensor make(std::vector<std::int64_t> shape) {
    return Tensor::contiguous(memory_.data(), dtype::f32, shape.data(), static_cast<int>(shape.size()));
  }
  std::vector<float> memory_;
};

TEST_F(ViewsTest, SliceCountsFromEitherEnd) {
  const Tensor t = make({2, 5, 3});
  EXPECT_EQ(values(slice_view(t, 1, -1, 1)), (std::vector<float>{12, 13, 14, 27, 28, 29}));
  EXPECT_EQ(values(slice_view(t, -1, 1, 1)), values(slice_view(t, 2, 1, 1)));
  EXPECT_EQ(slice_view(t, 1, 5, 0).numel(), 0);
  EXPECT_THROW((void)slice_view(t, 1, 4, 2), Error);
  EXPECT_THROW((void)slice_view(t, 3, 0, 1), Error);
  EXPECT_THROW((void)slice_view(t, 1, -6, 1), Error);
}

TEST_F(ViewsTest, ReshapeKeepsTheOrderOfElements) {
  const Tensor t = make({2, 3, 4, 5});
  const std::vector<std::vector<std::int64_t>> shapes = {{120}, {6, 20}, {2, 1, 3, 4, 5, 1}, {-1, 10}, {2, 12, -1}};
  for (const auto& shape : shapes) EXPECT_EQ(values(reshape_view(t, shape)), values(t));
}

TEST_F(ViewsTest, ReshapeOfAnEmptyTensorInfersAsIfItHadOneEntry) {
  const auto shape_of = [&](std::vector<std::int64_t> from, const std::vector<std::int64_t>& to) {
    const Tensor out = reshape_view(make(std::move(from)), to);
    return std::vector<std::int64_t>(out.shape.begin(), out.shape.begin() + out.ndim);
  };
  EXPECT_EQ(shape_of({0, 7, 4}, {0, 1, -1, 4}), (std::vector<std::int64_t>{0, 1, 7, 4}));
  EXPECT_EQ(shape_of({0, 7, 4}, {0, -1}), (std::vector<std::int64_t>{0, 28}));
  EXPECT_EQ(shape_of({2, 0, 4}, {2, -1, 4}), (std::vector<std::int64_t>{2, 0, 4}));
  EXPECT_EQ(shape_of({0, 0, 4}, {0, 1, -1, 4}), (std::vector<std::int64_t>{0, 1, 0, 4}));
  EXPECT_THROW((void)shape_of({0, 7, 4}, {0, -1, 3}), Error);
  EXPECT_THROW((void)shape_of({2, 3}, {0, -1}), Error);
  EXPECT_THROW((void)shape_of({0, 4}, {0, std::int64_t{1} << 40, std::int64_t{1} << 40, -1}), Error);
}

TEST_F(ViewsTest, ReshapeOfASliceSplitsButDoesNotMergeAcrossTheGap) {
  const Tensor part = slice_view(make({2, 5, 12}), 2, 4, 6);
  const std::vector<std::int64_t> split = {2, 5, 1, 3, 2}, merged_rows = {10, 6}, merged_gap = {2, 30};
  EXPECT_EQ(values(reshape_view(part, split)), values(part));
  EXPECT_EQ(values(reshape_view(part, merged_rows)), values(part));
  EXPECT_THROW((void)reshape_view(part, merged_gap), Error);
  EXPECT_THROW((void)reshape_view(part, std::vector<std::int64_t>{-1, 7}), Error);
  EXPECT_THROW((void)reshape_view(part, std::vector<std::int64_t>{61}), Error);
}

TEST_F(ViewsTest, ExpandRepeatsWithoutMemory) {
  const Tensor t = slice_view(make({1, 1, 4}), 2, 1, 2);
  const std::vector<std::int64_t> shape = {2, 3, 2};
  const Tensor out = expand_view(t, shape);
  EXPECT_EQ(out.strides[0], 0);
  EXPECT_EQ(values(out), (std::vector<float>{1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2}));
  EXPECT_EQ(values(expand_view(make({2}), std::vector<std::int64_t>{3, -1})), (std::vector<float>{0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(expand_view(make({1, 2}), std::vector<std::int64_t>{0, 2}).numel(), 0);
  const std::int64_t huge = std::int64_t{1} << 40;
  for (const std::vector<std::int64_t>& bad : std::vector<std::vector<std::int64_t>>{
           {4}, {2, 5}, {-1, 2, 4}, {2, -2, 4}, {2, 0}, {huge, huge, 4}, {1, 1, 1, 1, 1, 1, 1, 2, 4}}) {
    EXPECT_THROW((void)expand_view(make({2, 4}), bad), Error) << bad.size();
  }
}

// Whatever chain of permutes and slices: a reshape either throws or keeps the row-major order.
TEST_F(ViewsTest, ReshapeOfAnyViewKeepsTheOrderOrRefuses) {
  std::mt19937 random(7);
  int kept = 0;
  for (int round = 0; round < 2000; ++round) {
    Tensor t = make({2, 3, 4, 5});
    std::vector<std::int64_t> order = {0, 1, 2, 3};
    if (round % 2 == 0) std::shuffle(order.begin(), order.end(), random);
    t = permute_view(t, order);
    const auto dim = static_cast<std::int64_t>(random() % 4);
    const std::int64_t extent = t.size(static_cast<int>(dim));
    const auto start = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(extent));
    t = slice_view(t, dim, start, 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(extent - start)));
    std::vector<std::int64_t> shape;
    std::int64_t rest = t.numel();
    for (const std::int64_t d : {2, 3, 5}) {
      if (rest % d == 0 && random() % 2 == 0) {
        shape.push_back(d);
        rest /= d;
      }
    }
    shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(random() % (shape.size() + 1)), rest);
    try {
      EXPECT_EQ(values(reshape_view(t, shape)), values(t));
      ++kept;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(kept, 300);
}

}  // namespace
}  // namespace mambasdk::runtime
