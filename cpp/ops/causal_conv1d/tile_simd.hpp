// What the forward and backward kernels of causal_conv1d share: work items, and tiles as rows. For *.isa.cpp only.
#pragma once

#include "core/simd_types.hpp"
#include "ops/causal_conv1d/causal_conv1d.hpp"
#include "ops/half_sigmoid.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace causal_conv1d;
using Index = std::int64_t;

// The kernels are templates of the width K: 2, 3 and 4 get their own code, kAnyWidth stands for the wider ones.
inline constexpr int kAnyWidth = 0;
template <int K>
inline constexpr int kCapacity = K == kAnyWidth ? kMaxWidth : K;

// Rows of eight steps and of the next eight stay in the first-level cache where they are of 16-bit types.
template <class T>
inline constexpr int kStepsAtOnce = sizeof(T) == 2 ? 8 : 4;

// Channels [channel, channel + channels) of the call: whole vectors, or the few that are left over.
struct Block {
  Index channel;
  Index channels;
  int width;           // K of the call
  const float* table;  // (K+1, kBlockChannels): weights, then bias, from `channel` on

  [[nodiscard]] MAMBASDK_ALWAYS_INLINE bool is_whole() const { return channels >= kLanes; }
};

// f(block) for the channels of work item `index`, in narrower pieces where they must be packed first.
template <class F>
MAMBASDK_SIMD void for_blocks(const Args& a, Index index, bool packed, F&& f) {
  const Index step = packed ? kPackedChannels : kBlockChannels;
  const float* table = a.table + index * (a.width + 1) * kBlockChannels;
  const Index last = (index + 1) * kBlockChannels < a.channels ? (index + 1) * kBlockChannels : a.channels;
  for (Index channel = index * kBlockChannels; channel < last;) {
    Index n = last - channel < step ? last - channel : step;
    if (n > kLanes) n -= n % kLanes;
    f(Block{channel, n, a.width, table + (channel - index * kBlockChannels)});
    channel += n;
  }
}

MAMBASDK_SIMD Index group_end(const Tiling& tiling, Index group) {
  const Index end = (group + 1) * tiling.tiles_per_group;
  return end < tiling.tiles ? end : tiling.tiles;
}

template <class T>
MAMBASDK_SIMD T* row(const StridedView& a, Index i, Index j, Index channel) {
  return static_cast<T*>(a.data) + i * a.stride[0] + j * a.stride[1] + channel * a.stride[2];
}

// n elements of a strided row, or zeros where there is none.
template <class T>
[[gnu::noinline]] void copy_row(T* out, const T* in, Index stride, Index n) {
  if (in == nullptr) {
    for (Index i = 0; i < n; ++i) out[i] = T{};
  } else {
    for (Index i = 0; i < n; ++i) out[i] = in[i * stride];
  }
}

// The rows of a tile with channel stride 1, and the K-1 rows before them: of the sequence itself, of its initial
// state, or zeros. What is not so in memory is copied to the buffers.
template <class T>
struct TileRows {
  const T* base;  // step `begin` of the tile
  Index stride;
  int history;  // K-1
  const T* before[kMaxWidth - 1];
  alignas(64) T copies[(kMaxWidth - 1) * kBlockChannels];
  alignas(64) T packed[(kTileRows + kMaxWidth - 1) * kPackedChannels];

  // Step t from -(K-1), relative to the tile's begin.
  MAMBASDK_ALWAYS_INLINE const T* operator[](Index t) const { return t >= 0 ? base + t * stride : before[t + history]; }

  [[gnu::noinline]] void fill(const Args& a, const Tile& tile, const Block& block, Index rows) {
    const Index channel_stride = a.x.stride[2];
    history = a.width - 1;
    base = row<T>(a.x, tile.batch, tile.begin, block.channel);
    stride = a.x.stride[1];
    if (channel_stride != 1) {
      for (Index t = 0; t < rows; ++t) {
        copy_row(packed + t * kPackedChannels, base + t * stride, channel_stride, block.channels);
      }
    }
    for (int j = 0; j < history; ++j) {
      const Index t = tile.begin - history + j;
      T* copy = copies + j * kBlockChannels;
      before[j] = copy;
      if (t < tile.first) {
        const bool has_state = a.initial_state.data != nullptr && tile.initial >= 0;
        const T* in =
            has_state ? row<T>(a.initial_state, tile.initial, t - tile.first + history, block.channel) : nullptr;
        copy_row(copy, in, a.initial_state.stride[2], block.channels);
      } else if (channel_stride == 1) {
        before[j] = row<T>(a.x, tile.batch, t, block.channel);
      } else {
        copy_row(copy, row<T>(a.x, tile.batch, t, block.channel), channel_stride, block.channels);
      }
    }
    if (channel_stride != 1) {
      base = packed;
      stride = kPackedChannels;
    }
  }
};

// (blocks, K+1, kBlockChannels): the weights with channels in lanes, then the bias, zero-padded. A block's rows are
// together, because rows as far apart as those of x and y would fight with them for the sets of the first-level
// cache.
template <class W>
void fill_table(const Args& a) {
  const W* weight = static_cast<const W*>(a.weight);
  const W* bias = static_cast<const W*>(a.bias);
  for (Index first = 0; first < a.channels; first += kBlockChannels) {
    float* out = a.table + first * (a.width + 1);
    const Index n = a.channels - first < kBlockChannels ? a.channels - first : kBlockChannels;
    for (int k = 0; k <= a.width; ++k, out += kBlockChannels) {
      const W* in =
          k < a.width ? weight + k * a.weight_stride[1] + first * a.weight_stride[0] : bias + first * a.bias_stride;
      const Index stride = k < a.width ? a.weight_stride[0] : a.bias_stride;
      const bool present = k < a.width || bias != nullptr;
      for (Index d = 0; d < n; ++d) out[d] = present ? to_float(in[d * stride]) : 0.0f;
      for (Index d = n; d < kBlockChannels; ++d) out[d] = 0.0f;
    }
  }
}

MAMBASDK_SIMD void fill_table_for(const Args& a) {
  with_type(a.weight_type, [&]<class W>(W) { fill_table<W>(a); });
}

// f(group, index) for every work item, channels innermost.
template <class F>
MAMBASDK_SIMD void for_items(const Args& a, const Parallel& parallel, F&& f) {
  const Index blocks = (a.channels + kBlockChannels - 1) / kBlockChannels;
  const Index groups = a.tiling.groups();
  // A range should be worth its hand-over: some 16 K elements.
  const Index width = a.channels < kBlockChannels ? a.channels : kBlockChannels;
  const Index elements = (a.tiling.steps / (groups > 0 ? groups : 1) + 1) * (width + 1);
  const Index grain = 16384 / elements > 1 ? 16384 / elements : 1;
  parallel(groups * blocks, grain, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) f(i / blocks, i % blocks);
  });
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
