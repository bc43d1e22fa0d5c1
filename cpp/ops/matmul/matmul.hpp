// matmul: products of pairs of matrices that are both activations. Argument structs of the kernel.
#pragma once

#include <cstdint>

#include "core/isa.hpp"

namespace mambasdk {

class Registry;
void register_matmul(Registry& registry);

namespace matmul {

inline constexpr std::int64_t kMaxSlots = 64;  // small products go side by side in at most this many groups

// Matrices of one tensor: element (i, j) of matrix b is data[offset[b] + i * row + j * column].
struct Matrices {
  const void* data = nullptr;
  const std::int64_t* offset = nullptr;
  std::int64_t row = 0, column = 0;
};

struct Args {
  std::int64_t count = 0, m = 0, n = 0, k = 0;  // none is 0 but k
  Matrices x;                                   // (m, k) each
  Matrices y;                                   // (k, n) each
  DType type{2, 32};
  void* out = nullptr;  // (count, m, n), contiguous
};

}  // namespace matmul

MAMBASDK_DECLARE_KERNEL(std::int64_t, matmul_workspace_bytes, const matmul::Args& a);
MAMBASDK_DECLARE_KERNEL(void, matmul, const matmul::Args& a, void* workspace, const Parallel& parallel);

}  // namespace mambasdk
