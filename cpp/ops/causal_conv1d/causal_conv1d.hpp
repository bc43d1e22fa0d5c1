// causal_conv1d and its update: depthwise causal convolution over channel-last sequences. Argument structs of the
// kernels.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "core/strided.hpp"

namespace mambasdk {

class Registry;
void register_causal_conv1d(Registry& registry);

namespace causal_conv1d {

inline constexpr int kMaxWidth = 8;                  // of the vector kernels; wider windows run on the scalar ones
inline constexpr std::int64_t kTileRows = 128;       // time steps of one tile
inline constexpr std::int64_t kBlockChannels = 256;  // channels of one work item; a multiple of every vector length
inline constexpr std::int64_t kPackedChannels = 64;  // the same, of a piece that is packed first

// Time steps [begin, end) of the sequence that fills [first, last) of batch row `batch`. It has row `initial` of the
// initial states and row `final` of the final ones, or none: -1.
struct Tile {
  std::int64_t batch, initial, final, first, last, begin, end;
};

// How the sequences are cut: by shape, cu_seqlens and seq_idx alone. Tile i of a plain batch is computed, of packed
// sequences looked up.
struct Tiling {
  std::int64_t length = 0;  // of a batch row
  std::int64_t steps = 0;   // of the whole call
  std::int64_t tiles = 0;
  std::int64_t tiles_per_sequence = 1;
  std::int64_t tiles_per_group = 1;  // neighbours that one work item does in turn
  const Tile* packed = nullptr;      // (tiles,), null for a plain batch

  [[nodiscard]] MAMBASDK_ALWAYS_INLINE std::int64_t groups() const {
    return (tiles + tiles_per_group - 1) / tiles_per_group;
  }
  [[nodiscard]] MAMBASDK_ALWAYS_INLINE Tile tile(std::int64_t i) const {
    if (packed != nullptr) return packed[i];
    const std::int64_t sequence = i / tiles_per_sequence;
    const std::int64_t begin = i % tiles_per_sequence * kTileRows;
    const std::int64_t end = begin + kTileRows < length ? begin + kTileRows : length;
    return {sequence, sequence, sequence, 0, length, begin, end};
  }
};

struct Args {
  Tiling tiling;
  std::int64_t channels = 0;
  int width = 0;
  bool silu = false;
  DType type;                    // T
  DType weight_type;             // W
  StridedView x;                 // (batch, time, D)
  const void* weight = nullptr;  // (D, K)
  std::int64_t weight_stride[2] = {0, 0};
  const void* bias = nullptr;  // (D,) or null
  std::int64_t bias_stride = 0;
  StridedView initial_state;  // (S, K-1, D)
  StridedView residual;       // (batch, time, D), channels contiguous; absent in a backward call
  float* table = nullptr;  // scratch, (blocks, K+1, kBlockChannels): the weights with channels in lanes, then the bias
  StridedView y;           // (batch, time, D), channels contiguous
};

struct BackwardArgs {
  Args forward;                    // y unused
  StridedView grad_y;              // (batch, time, D)
  StridedView grad_final_state;    // (S, K-1, D)
  StridedView grad_x;              // (batch, time, D), channels contiguous
  void* grad_weight = nullptr;     // (D, K), contiguous
  void* grad_bias = nullptr;       // (D,)
  StridedView grad_initial_state;  // (S, K-1, D), channels contiguous
  float* partial = nullptr;        // scratch, (groups, blocks, K+1, kBlockChannels)
};

MAMBASDK_ALWAYS_INLINE std::int64_t padded_channels(std::int64_t channels) {
  return (channels + kBlockChannels - 1) / kBlockChannels * kBlockChannels;
}

}  // namespace causal_conv1d

MAMBASDK_DECLARE_KERNEL(void, causal_conv1d_forward, const causal_conv1d::Args&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, causal_conv1d_backward, const causal_conv1d::BackwardArgs&, const Parallel&);

}  // namespace mambasdk
