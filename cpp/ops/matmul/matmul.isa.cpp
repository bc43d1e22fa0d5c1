// Products of pairs of matrices on the GEMM of kernels/gemm: many small ones side by side, each on one thread, or large
// ones in turn, each on all threads.
#include "ops/matmul/matmul.hpp"

#include "core/simd_types.hpp"
#include "kernels/gemm.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace matmul;
using Index = std::int64_t;

constexpr double kLarge = 1 << 21;  // multiply-adds of a product that all threads share

Index rounded(Index n) {
  return (n + 15) / 16 * 16;
}
Index min64(Index a, Index b) {
  return a < b ? a : b;
}
double multiply_adds(const Args& a) {
  return static_cast<double>(a.m) * static_cast<double>(a.n) * static_cast<double>(a.k);
}

// What one product needs beside its operands, in floats from the start of its scratch; -1 where it is not needed.
struct Plan {
  Gemm gemm{};  // but for the pointers
  bool wide;    // float32
  bool y_copied;
  Index x = -1, y = -1, out = -1, packed = 0, size = 0;
  Index slots;  // products side by side

  explicit Plan(const Args& a) : wide(is_float(a.type)) {
    Index used = 0;
    const auto place = [&](Index floats) {
      const Index at = used;
      used += rounded(floats);
      return at;
    };
    gemm.m = a.m;
    gemm.n = a.n;
    gemm.k = a.k;
    gemm.a_row = a.x.row;
    gemm.a_col = a.k == 1 ? 1 : a.x.column;
    if (!wide) {
      x = place(a.m * a.k);
      gemm.a_row = a.k;
      gemm.a_col = 1;
    }
    gemm.b_dtype = a.type;
    gemm.b_transposed = a.y.column != 1 && a.n > 1;
    gemm.b_row = gemm.b_transposed ? a.y.column : a.y.row;
    y_copied = gemm.b_transposed && a.y.row != 1 && a.k > 1;
    if (y_copied) {
      y = place(a.k * a.n);
      gemm.b_dtype = {2, 32};
      gemm.b_transposed = false;
      gemm.b_row = a.n;
    }
    if (!wide) out = place(a.m * a.n);
    gemm.c_row = a.n;
    packed = place(gemm_workspace_bytes(gemm) / static_cast<Index>(sizeof(float)));
    size = used;
    slots = multiply_adds(a) >= kLarge ? 1 : min64(a.count, kMaxSlots);
  }
};

// out (rows, columns) = the strided matrix, as float32.
template <class T>
void widen_matrix(const T* in, Index row, Index column, Index rows, Index columns, float* out,
                  const Parallel& parallel) {
  if (column == 1 && row == columns) {
    return parallel(rows * columns, 16384,
                    [&](Index begin, Index end) { widen(in + begin, 1, out + begin, end - begin); });
  }
  parallel(rows, 1 + 16384 / (columns + 1), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) widen(in + r * row, columns == 1 ? 1 : column, out + r * columns, columns);
  });
}

template <class T>
void multiply(const Args& a, const Plan& plan, Index b, float* scratch, const Parallel& parallel) {
  Gemm g = plan.gemm;
  const T* x = static_cast<const T*>(a.x.data) + a.x.offset[b];
  const T* y = static_cast<const T*>(a.y.data) + a.y.offset[b];
  T* out = static_cast<T*>(a.out) + b * a.m * a.n;
  if constexpr (std::is_same_v<T, float>) {
    g.a = x;
    g.c = out;
  } else {
    widen_matrix(x, a.x.row, a.x.column, a.m, a.k, scratch + plan.x, parallel);
    g.a = scratch + plan.x;
    g.c = scratch + plan.out;
  }
  g.b = y;
  if (plan.y_copied) {
    widen_matrix(y, a.y.row, a.y.column, a.k, a.n, scratch + plan.y, parallel);
    g.b = scratch + plan.y;
  }
  gemm(g, scratch + plan.packed, parallel);
  if constexpr (!std::is_same_v<T, float>) {
    const float* product = g.c;
    parallel(a.m * a.n, 16384, [&](Index begin, Index end) { narrow(product + begin, out + begin, end - begin); });
  }
}

constexpr Parallel kAlone{nullptr, [](void*, Index n, Index, Parallel::Body body, void* arg) {
                            if (n > 0) body(arg, 0, n);
                          }};

}  // namespace

Index matmul_workspace_bytes(const Args& a) {
  const Plan plan(a);
  return plan.size * plan.slots * static_cast<Index>(sizeof(float));
}

void matmul(const Args& a, void* workspace, const Parallel& parallel) {
  const Plan plan(a);
  auto* scratch = static_cast<float*>(workspace);
  with_type(a.type, [&]<class T>(T) {
    if (plan.slots == 1) {
      for (Index b = 0; b < a.count; ++b) multiply<T>(a, plan, b, scratch, parallel);
      return;
    }
    const double each = multiply_adds(a) * static_cast<double>(a.count) / static_cast<double>(plan.slots);
    const Index grain = 1 + static_cast<Index>(65536.0 / (each + 1.0));
    parallel(plan.slots, grain, [&](Index begin, Index end) {
      const Index last = end * a.count / plan.slots;
      for (Index b = begin * a.count / plan.slots; b < last; ++b)
        multiply<T>(a, plan, b, scratch + begin * plan.size, kAlone);
    });
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
