// Matrix product with float32 activations: C = A B or C = A B^T, optionally added to C.
//
// B may be float32, bfloat16 or float16 and is widened; sums are float32. Results depend on the shape and the
// instruction set only, never on the number of threads.
#pragma once

#include <cstdint>

#include "core/isa.hpp"

namespace mambasdk {

struct Gemm {
  std::int64_t m, n, k;
  const float* a;  // (m,k): a[i*a_row + p*a_col]; one of the two strides is 1 in every fast case
  std::int64_t a_row, a_col;
  const void* b;  // (k,n): b[p*b_row + j]; or, when b_transposed, (n,k): b[j*b_row + p]
  DType b_dtype;  // f32, bf16, f16
  std::int64_t b_row;
  bool b_transposed;
  float* c;  // (m,n): c[i*c_row + j]
  std::int64_t c_row;
  bool accumulate;  // C += instead of C =
};

inline constexpr std::int64_t kMaxPackedColumns = 128;  // n is packed in multiples of at most this

// Bytes that `gemm` needs at `workspace` (64-byte aligned); few or 0 when m is so small that B is read as it lies.
MAMBASDK_DECLARE_KERNEL(std::int64_t, gemm_workspace_bytes, const Gemm& g);
MAMBASDK_DECLARE_KERNEL(void, gemm, const Gemm& g, void* workspace, const Parallel& parallel);

}  // namespace mambasdk
