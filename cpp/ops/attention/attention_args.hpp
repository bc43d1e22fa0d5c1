// attention: argument structs of the kernels.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "core/strided.hpp"

namespace mambasdk {

class Registry;
void register_attention(Registry& registry);

namespace attention {

// The keys that a query sees: [begin, end).
struct Range {
  std::int64_t begin, end;
};

// No extent is 0 but keys, width and value_width.
struct Args {
  std::int64_t batch = 0, queries = 0, keys = 0, heads = 0, groups = 0, width = 0, value_width = 0;  // B L S H G E F
  DType type{2, 32};
  StridedView q, k, v;  // (B, L, H, E), (B, S, G, E), (B, S, G, F)
  StridedView mask;     // (B, H, L, S), or absent
  float scale = 1.0f;
  bool causal = false;
  std::int64_t window = 0;        // 0: none
  void* y = nullptr;              // (B, L, H, F), contiguous
  void* probabilities = nullptr;  // (B, H, L, S), contiguous, or null

  [[nodiscard]] MAMBASDK_ALWAYS_INLINE Range visible(std::int64_t query) const {
    const std::int64_t last = query + 1 + keys - queries;
    const std::int64_t end = !causal ? keys : last > 0 ? last : 0;
    return {window > 0 && end > window ? end - window : 0, end};
  }
};

inline constexpr std::int64_t kMaxSlots = 64;      // groups of tasks with scratch of their own, at most
inline constexpr std::int64_t kDecodeRows = 8;     // at most this many queries of a group of heads stream the keys
inline constexpr std::int64_t kDecodeChunk = 256;  // keys of a decode task
inline constexpr std::int64_t kWidthPadding = 64;  // rows of scratch are a multiple of this many floats
inline constexpr std::int64_t kMaxRowLanes = 64;   // queries of a block, at most
inline constexpr std::int64_t kMaxKeyBlock = 128;  // keys of a block, at most

}  // namespace attention

MAMBASDK_DECLARE_KERNEL(std::int64_t, attention_workspace_bytes, const attention::Args& a);
MAMBASDK_DECLARE_KERNEL(void, attention, const attention::Args& a, void* workspace, const Parallel& parallel);
// Few queries against many keys, as in decoding; without probabilities, and the last strides of k and v are 1.
MAMBASDK_DECLARE_KERNEL(std::int64_t, attention_decode_workspace_bytes, const attention::Args& a);
MAMBASDK_DECLARE_KERNEL(void, attention_decode, const attention::Args& a, void* workspace, const Parallel& parallel);

}  // namespace mambasdk
