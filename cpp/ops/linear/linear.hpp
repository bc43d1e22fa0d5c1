// linear and embedding: the dense products of the native engine. Argument structs of the kernels.
#pragma once

#include <cstdint>
#include <string_view>

#include "ops/rows.hpp"
#include "ops/thread_scratch.hpp"

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
  bool rounds = false;  // to bfloat16
};

inline constexpr std::int64_t kMaxPackedBlock = 128;  // outputs that a thread packs at a time, at most
inline constexpr std::int64_t kPairedElements = 2;    // bfloat16 in a cell of 4 bytes

// Rows into pairs of bfloat16, out rows `stride` pairs apart, a zero beside an odd last element.
struct RoundArgs {
  Rows rows;
  std::int64_t count = 0, columns = 0, stride = 0;
  float* out = nullptr;
};

// y = x weight^T + bias, in products of float32 or, for weights of bfloat16 and AVX512_BF16, of pairs of them.
struct BlockArgs {
  std::int64_t rows = 0, in_features = 0, out_features = 0;
  const float* x = nullptr;   // (rows, I), or with `pairs` (rows, I rounded up to pairs, each in one float's place)
  std::int64_t x_stride = 0;  // floats from row to row
  bool pairs = false;
  Rows weight;  // (O, I), element_stride 1
  Rows bias;    // one row of O, or absent
  void* y = nullptr;
  DType y_type{2, 32};
};

// Elements of the summed dim of one product of tiles, and rows of x of four of them (kernels/tile_amx.hpp).
inline constexpr std::int64_t kTileBlock = 32;
inline constexpr std::int64_t kTileRowsOfX = 32;
constexpr std::int64_t tile_steps(std::int64_t in_features) {
  return (in_features + kTileBlock - 1) / kTileBlock;
}
constexpr std::int64_t tile_rows(std::int64_t rows) {
  return (rows + kTileRowsOfX - 1) / kTileRowsOfX * kTileRowsOfX;
}

// Rows of x as tiles of bfloat16: (rows / 32, in_features / 32, 2, 16, 16) cells of two neighbours of a row, the last
// dim along the rows; zeros beyond the last row and feature.
struct TileInputArgs {
  Rows rows;
  std::int64_t count = 0, columns = 0;
  float* out = nullptr;  // tile_rows(count) * tile_steps(columns) * kTileBlock / 2 cells
};

// y = x weight^T + bias in products of bfloat16.
struct TileArgs {
  std::int64_t rows = 0, in_features = 0, out_features = 0;
  const float* x = nullptr;  // from linear_tile_input
  Rows weight;               // (O, I) of bfloat16, element_stride 1
  Rows bias;                 // one row of O, or absent
  void* y = nullptr;
  DType y_type{2, 32};
};

// y = x weight^T + bias by whichever kernel suits its sizes.
struct Product {
  std::int64_t rows = 0, in_features = 0, out_features = 0;
  Rows x;             // (rows, I)
  Rows weight;        // (O, I)
  Rows bias{};        // one row of O, or absent
  void* y = nullptr;  // (rows, O) of y_type
  DType y_type{2, 32};
  bool rounds_x = false;  // to bfloat16, for weights that are so
};

struct EmbeddingArgs {
  Rows weight;  // (V, D)
  std::int64_t columns = 0;
  const std::int32_t* indices = nullptr;  // (count,) already checked
  std::int64_t count = 0;
  float* out = nullptr;  // (count, D)
};

// operation: named where memory runs out.
void multiply(const Product& product, const Context& context, std::string_view operation);

}  // namespace linear

MAMBASDK_DECLARE_KERNEL(void, linear_stream, const linear::StreamArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, linear_dots, const linear::StreamArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, linear_widen, const linear::WidenArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, linear_round, const linear::RoundArgs&, const Parallel&);
// False when the scratch ran out. A result is one chain of sums in order, of pairs where it is of pairs; subnormal
// factors of pairs count as zero.
MAMBASDK_DECLARE_KERNEL(bool, linear_blocks, const linear::BlockArgs&, const Parallel&, const ThreadScratch&);
// With the tile registers of AMX; a result depends neither on its row nor on its column. False when the scratch ran
// out.
MAMBASDK_IF_AVX512_AMX(MAMBASDK_DECLARE_IN(avx512_amx, void, linear_tile_input, const linear::TileInputArgs&,
                                           const Parallel&))
MAMBASDK_IF_AVX512_AMX(MAMBASDK_DECLARE_IN(avx512_amx, bool, linear_tiles, const linear::TileArgs&, const Parallel&,
                                           const ThreadScratch&))
MAMBASDK_DECLARE_KERNEL(void, embedding_rows, const linear::EmbeddingArgs&, const Parallel&);

}  // namespace mambasdk
