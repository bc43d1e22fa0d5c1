// linear and embedding: the dense products of the native engine. Argument structs of the kernels.
#pragma once

#include <cstdint>

#include "ops/rows.hpp"

namespace mambasdk {

class Registry;
void register_linear(Registry& registry);

namespace linear {

inline constexpr std::int64_t kMaxStreamedRows = 8;  // with more rows of x the weights are worth packing for a GEMM

inline constexpr std::int64_t kMaxDotRows = 96;        // up to here dot products beat packing
inline constexpr std::int64_t kLeastDotFeatures = 64;  // shorter ones are mostly sums across lanes

// y = x weight^T + bias, the weights streamed from memory once.
struct StreamArgs {
  std::int64_t rows = 0;          // at most kMaxStreamedRows; linear_dots takes any
  std::int64_t in_features = 0;   // I
  std::int64_t out_features = 0;  // O
  const float* x = nullptr;       // (rows, I), rows x_stride apart
  std::int64_t x_stride = 0;
  Rows weight;        // (O, I)
  Rows bias;          // one row of O, or absent
  void* y = nullptr;  // (rows, O) of y_type
  DType y_type{2, 32};
};

// Rows into float32: out[r] = rows[r], out rows `columns` apart.
struct WidenArgs {
  Rows rows;
  std::int64_t count = 0, columns = 0;
  float* out = nullptr;
};

// out[r] = rows[r] + bias in out's type; `rows` may be `out`.
struct FinishArgs {
  const float* rows = nullptr;  // (count, columns)
  std::int64_t count = 0, columns = 0;
  Rows bias;
  float* table = nullptr;  // scratch, (columns,)
  void* out = nullptr;
  DType type{2, 32};
};

struct EmbeddingArgs {
  Rows weight;  // (V, D)
  std::int64_t columns = 0;
  const std::int32_t* indices = nullptr;  // (count,) already checked
  std::int64_t count = 0;
  float* out = nullptr;  // (count, D)
};

}  // namespace linear

MAMBASDK_DECLARE_KERNEL(void, linear_stream, const linear::StreamArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, linear_dots, const linear::StreamArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, linear_widen, const linear::WidenArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, linear_finish, const linear::FinishArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, embedding_rows, const linear::EmbeddingArgs&, const Parallel&);

}  // namespace mambasdk
