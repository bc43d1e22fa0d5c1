// linear and embedding against their references, over the boundary between streaming and matrix product.
#include "ops/linear/linear.hpp"

#include "kernels/pairs.hpp"
#include "ops/op_testing.hpp"
#include "ops/packed/packed.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::args;
using testing::Layout;

const Registry& ops() {
  return testing::operations<register_linear, register_packed>();
}

// Products of pairs of bfloat16 on a processor that has them, fast or not, and products of float32.
class EitherProducts : public ::testing::TestWithParam<PairProducts> {
 protected:
  void SetUp() override { set_pair_products(static_cast<int>(GetParam())); }
  void TearDown() override { set_pair_products(-1); }
};
INSTANTIATE_TEST_SUITE_P(Linear, EitherProducts,
                         ::testing::Values(PairProducts::none, PairProducts::vectors, PairProducts::tiles));

TEST(Linear, MatchesReference) {
  constexpr DType types[] = {dtype::f32, dtype::bf16, dtype::f16};
  for (const DType type : types) {
    for (const DType weight : types) {
      for (const Layout layout : {Layout::contiguous, Layout::padded, Layout::transposed}) {
        for (const std::vector<std::int64_t>& lead :
             std::vector<std::vector<std::int64_t>>{{}, {1}, {2}, {3}, {7}, {2, 4}, {9}, {3, 11}, {0}, {100}}) {
          for (const auto& [in, out] :
               {std::pair<std::int64_t, std::int64_t>{40, 19}, {1, 1}, {130, 33}, {16, 0}, {0, 5}}) {
            for (const bool rounds : {false, true}) {
              Arena arena(1);
              std::vector<std::int64_t> shape = lead;
              shape.push_back(in);
              const bool bias = (in + out) % 2 == 1;
              const double scale = 1.0 / std::sqrt(static_cast<double>(in) + 1.0);
              testing::expect_matches_reference(
                  arena, ops().get("linear"),
                  args(arena.normal(type, shape, layout), arena.normal(weight, {out, in}, layout, scale),
                       bias ? arena.normal(weight, {out}, layout) : nullptr, rounds),
                  concat("linear rows ", shape.size() > 1 ? shape[0] : 1, " I ", in, " O ", out, " ", dtype_name(type),
                         "/", dtype_name(weight), " layout ", static_cast<int>(layout), " round_x ", rounds),
                  2.0);
              if (HasFatalFailure()) return;
              if (weight != dtype::bf16) break;  // there round_x changes nothing
            }
          }
        }
      }
    }
  }
}

// More rows and outputs than one task has, odd numbers of features, a last panel that is narrow.
TEST_P(EitherProducts, OfManyRowsMatchReference) {
  for (const DType type : {dtype::f32, dtype::bf16}) {
    for (const std::int64_t in : {1, 2, 33, 71, 130}) {
      for (const std::int64_t rows : {9, 250}) {
        for (const bool rounds : {false, true}) {
          Arena arena(5);
          testing::expect_matches_reference(
              arena, ops().get("linear"),
              args(arena.normal(type, {rows, in}), arena.normal(dtype::bf16, {300, in}, Layout::padded, 0.1),
                   arena.normal(dtype::bf16, {300}), rounds),
              concat("linear rows ", rows, " I ", in, " ", dtype_name(type), " round_x ", rounds), 2.0);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(EitherProducts, OfPackedWeightsMatchReference) {
  for (const std::int64_t depth : {2, 7, 64}) {
    for (const std::int64_t rows : {1, 40}) {
      Arena arena(6);
      const Tensor packed =
          testing::call(arena, ops().get("pack_weights"), args(arena.normal(dtype::bf16, {70, depth})))[0];
      testing::expect_matches_reference(
          arena, ops().get("linear_packed"),
          args(arena.normal(dtype::f32, {rows, depth}), &packed, nullptr, nullptr, 70, 0, 0.01, false, true),
          concat("linear_packed rows ", rows, " K ", depth), 2.0);
      if (HasFatalFailure()) return;
    }
  }
}

// Decode steps of a batch give each sequence the bits it gets alone.
TEST(Linear, StreamedRowsDoNotDependOnEachOther) {
  Arena arena(2);
  const Tensor* x = arena.normal(dtype::f32, {8, 100});
  const Tensor* weight = arena.normal(dtype::bf16, {50, 100});
  const Tensor all = testing::call(arena, ops().get("linear"), args(x, weight, nullptr, false))[0];
  for (std::int64_t r = 0; r < 8; ++r) {
    const std::int64_t shape[] = {1, 100};
    const Tensor* row = arena.keep(Tensor::contiguous(x->ptr<float>() + r * 100, dtype::f32, shape, 2));
    const Tensor one = testing::call(arena, ops().get("linear"), args(row, weight, nullptr, false))[0];
    EXPECT_EQ(std::memcmp(one.data, all.ptr<float>() + r * 50, 50 * sizeof(float)), 0);
  }
}

TEST(Embedding, MatchesReference) {
  for (const DType weight : {dtype::f32, dtype::bf16, dtype::f16}) {
    for (const Layout layout : {Layout::contiguous, Layout::padded, Layout::transposed}) {
      for (const std::vector<std::int32_t>& indices : {std::vector<std::int32_t>{}, {3, 0, 6, 3, 3}}) {
        Arena arena(3);
        testing::expect_matches_reference(arena, ops().get("embedding"),
                                          args(arena.integers(indices), arena.normal(weight, {7, 21}, layout)),
                                          "embedding");
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Embedding, IndicesOutOfRangeAreErrors) {
  for (const std::int32_t bad : {-1, 7, 1 << 30}) {
    Arena arena(4);
    try {
      testing::call(arena, ops().get("embedding"), args(arena.integers({0, bad}), arena.normal(dtype::f32, {7, 4})));
      ADD_FAILURE() << "no error for " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(std::string(error.what()),
                concat("embedding: element 1 of indices is ", bad, ", expected 0 to 6: weight has 7 rows"));
    }
  }
}

}  // namespace
}  // namespace mambasdk
