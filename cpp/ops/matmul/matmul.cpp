#include "ops/matmul/matmul.hpp"

#include <vector>

#include "core/element.hpp"
#include "core/extent.hpp"
#include "core/registry.hpp"
#include "kernels/gemm.hpp"

namespace mambasdk {
namespace matmul {
namespace {

constexpr Declaration kMatmul = "matmul(x: T[*,M,K], y: T[*,K,N]) -> (out: T[*,M,N])";

// Where each matrix begins, in elements: the dims but the last two, one behind the other.
std::vector<std::int64_t> matrix_offsets(const Tensor& t, std::int64_t count) {
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(count));
  for (std::int64_t b = 0; b < count; ++b) {
    std::int64_t rest = b;
    for (int d = t.ndim - 3; d >= 0; --d) {
      offsets[static_cast<std::size_t>(b)] += rest % t.size(d) * t.stride(d);
      rest /= t.size(d);
    }
  }
  return offsets;
}

struct Problem {
  std::vector<std::int64_t> x_offsets, y_offsets;
  Args args;

  explicit Problem(const CallOf<kMatmul>& c) {
    const Tensor &x = c.tensor<"x">(), &y = c.tensor<"y">(), &out = c.output<"out">();
    args.m = c.dim<"M">();
    args.n = c.dim<"N">();
    args.k = c.dim<"K">();
    args.count = out.numel() / (args.m * args.n);
    args.type = out.dtype;
    args.out = out.data;
    x_offsets = matrix_offsets(x, args.count);
    y_offsets = matrix_offsets(y, args.count);
    args.x = {x.data, x_offsets.data(), x.stride(-2), x.stride(-1)};
    args.y = {y.data, y_offsets.data(), y.stride(-2), y.stride(-1)};
  }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;
};

void reference(const CallOf<kMatmul>& c) {
  if (c.output<"out">().numel() == 0) return;
  const Problem problem(c);
  const Args& a = problem.args;
  std::int64_t to = 0;
  for (std::int64_t b = 0; b < a.count; ++b) {
    for (std::int64_t i = 0; i < a.m; ++i) {
      for (std::int64_t j = 0; j < a.n; ++j, ++to) {
        double sum = 0.0;
        for (std::int64_t p = 0; p < a.k; ++p) {
          sum += load_element(a.x.data, a.type, a.x.offset[b] + i * a.x.row + p * a.x.column) *
                 load_element(a.y.data, a.type, a.y.offset[b] + p * a.y.row + j * a.y.column);
        }
        store_element(a.out, a.type, to, sum);
      }
    }
  }
}

void vector_matmul(const CallOf<kMatmul>& c) {
  if (c.output<"out">().numel() == 0) return;
  const Problem problem(c);
  const Args& a = problem.args;
  // The kernel's own sums, which are not checked, stay below this.
  const Extent columns = Extent(a.n).rounded_up(kMaxPackedColumns);
  (void)(Extent(kMaxSlots) * sizeof(float) * ((columns + a.m) * a.k + Extent(a.m) * a.n + columns * a.k + 64));
  const auto workspace = c.context().workspace(static_cast<std::size_t>(MAMBASDK_PICK(matmul_workspace_bytes)(a)));
  MAMBASDK_PICK(matmul)(a, workspace.get(), c.context().parallel());
}

}  // namespace
}  // namespace matmul

void register_matmul(Registry& registry) {
  using namespace matmul;
  registry.define<kMatmul>({
      .doc = "out = x y for each pair of matrices, accumulated in float32; 0 where K is 0. The leading dims of x and y "
             "are the same: what is broadcast comes as an expanded view, and a transposed factor as a transposed view. "
             "For inference: it has no derivative.",
      .reference = reference,
      .cpu = vector_matmul,
  });
}

}  // namespace mambasdk
