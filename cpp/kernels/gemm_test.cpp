// gemm: every layout of A and B, every weight type, tails of every dim, on every instruction set, against sums in
// double.
#include "kernels/gemm.hpp"

#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

using testing::Arena;

struct Case {
  std::int64_t m, n, k;
  DType type;
  bool a_transposed, b_transposed, accumulate;
};

std::vector<float> run(const Case& c, const Tensor& a, const Tensor& b, const std::vector<float>& start) {
  std::vector<float> out = start;
  const Gemm g{c.m,
               c.n,
               c.k,
               a.ptr<const float>(),
               c.a_transposed ? 1 : c.k,
               c.a_transposed ? c.m : 1,
               b.data,
               c.type,
               c.b_transposed ? c.k : c.n,
               c.b_transposed,
               out.data(),
               c.n,
               c.accumulate};
  const auto workspace = default_context().workspace(static_cast<std::size_t>(MAMBASDK_PICK(gemm_workspace_bytes)(g)));
  MAMBASDK_PICK(gemm)(g, workspace.get(), default_context().parallel());
  return out;
}

TEST(Gemm, MatchesSumsInDoubleAndDoesNotDependOnThreads) {
  const testing::Settings restore;
  for (const std::int64_t m : {1, 3, 5, 70})
    for (const std::int64_t n : {1, 33, 70})
      for (const std::int64_t k : {0, 1, 37, 200})
        for (int flags = 0; flags < 8; ++flags)
          for (const DType type : {dtype::f32, dtype::bf16, dtype::f16}) {
            const Case c{m, n, k, type, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0};
            Arena arena(1);
            const Tensor& a = *arena.normal(dtype::f32, {m, k});
            const Tensor& b = *arena.normal(type, {n, k});
            std::vector<float> start(static_cast<std::size_t>(m * n), c.accumulate ? 0.5f : NAN);
            for (const Isa isa : testing::instruction_sets()) {
              set_max_isa(isa);
              set_num_threads(1);
              const std::vector<float> got = run(c, a, b, start);
              set_num_threads(3);
              ASSERT_EQ(run(c, a, b, start), got) << "threads";
              for (std::int64_t i = 0; i < m; ++i)
                for (std::int64_t j = 0; j < n; ++j) {
                  double sum = c.accumulate ? 0.5 : 0.0;
                  for (std::int64_t p = 0; p < k; ++p)
                    sum += testing::element(a, c.a_transposed ? p * m + i : i * k + p) *
                           testing::element(b, c.b_transposed ? j * k + p : p * n + j);
                  ASSERT_NEAR(got[static_cast<std::size_t>(i * n + j)], sum, 1e-5 * (1.0 + std::sqrt(double(k))))
                      << isa_name(isa) << " m " << m << " n " << n << " k " << k << " flags " << flags << " "
                      << dtype_name(type);
                }
            }
          }
}

}  // namespace
}  // namespace mambasdk
