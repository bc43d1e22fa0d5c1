// causal_conv1d forward, vectorised: channels in lanes, four steps at a time. A work item is a group of tiles times
// kBlockChannels channels, so that memory sees long pieces of neighbouring rows.
#include "ops/causal_conv1d/tile_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// R steps of a block of whole vectors: each x and each weight is loaded once for all of them.
template <class T, int K, bool kSilu, int R>
[[gnu::noinline]] void forward_steps(const TileRows<T>& x, Index t, const Block& block, T* y, Index y_stride) {
  const int width = K == kAnyWidth ? block.width : K;
  const T* in[R + kCapacity<K> - 1];
  for (int r = 0; r < R + width - 1; ++r) in[r] = x[t - (width - 1) + r];
  for (Index c = 0; c < block.channels; c += kLanes) {
    vf xs[R + kCapacity<K> - 1];
    for (int r = 0; r < R + width - 1; ++r) xs[r] = in_register(load(in[r] + c));
    for (int r = 0; r < R; ++r) {  // the next R rows, which the hardware does not foresee
      __builtin_prefetch(in[r + width - 1] + R * x.stride + c);
      __builtin_prefetch(y + (R + r) * y_stride + c, 1);
    }
    vf u[R];
    for (int r = 0; r < R; ++r) u[r] = load(block.table + width * kBlockChannels + c);
    for (int k = 0; k < width; ++k) {
      const vf w = load(block.table + k * kBlockChannels + c);
      for (int r = 0; r < R; ++r) u[r] = u[r] + w * xs[r + k];
    }
    for (int r = 0; r < R; ++r) store(y + r * y_stride + c, kSilu ? silu(u[r]) : u[r]);
  }
}

// One step of any block.
template <class T>
[[gnu::noinline]] void forward_step(const TileRows<T>& x, Index t, const Block& block, bool with_silu, T* y) {
  const T* in[kMaxWidth];
  for (int k = 0; k < block.width; ++k) in[k] = x[t - (block.width - 1) + k];
  for (Index c = 0; c < block.channels; c += kLanes) {
    const int n = block.channels - c < kLanes ? static_cast<int>(block.channels - c) : kLanes;
    vf u = load(block.table + block.width * kBlockChannels + c);
    for (int k = 0; k < block.width; ++k) u = u + load(block.table + k * kBlockChannels + c) * load_n(in[k] + c, n);
    store_n(y + c, with_silu ? silu(u) : u, n);
  }
}

template <class T, int K, bool kSilu>
void forward_items(const Args& a, const Parallel& parallel) {
  for_items(a, parallel, [&](Index group, Index index) {
    TileRows<T> x;
    for_blocks(a, index, a.x.stride[2] != 1, [&](const Block& block) __attribute__((always_inline)) {
      for (Index i = group * a.tiling.tiles_per_group; i < group_end(a.tiling, group); ++i) {
        const Tile tile = a.tiling.tile(i);
        const Index rows = tile.end - tile.begin;
        if (rows == 0) continue;
        x.fill(a, tile, block, rows);
        T* y = row<T>(a.y, tile.batch, tile.begin, block.channel);
        const Index stride = a.y.stride[1];
        Index t = 0;
        if (block.is_whole()) {
          for (; t + 4 <= rows; t += 4) forward_steps<T, K, kSilu, 4>(x, t, block, y + t * stride, stride);
        }
        for (; t < rows; ++t) forward_step(x, t, block, kSilu, y + t * stride);
      }
    });
  });
}

template <class T, int K>
void dispatch_silu(const Args& a, const Parallel& parallel) {
  return a.silu ? forward_items<T, K, true>(a, parallel) : forward_items<T, K, false>(a, parallel);
}

template <class T>
void dispatch_width(const Args& a, const Parallel& parallel) {
  switch (a.width) {
    case 2:
      return dispatch_silu<T, 2>(a, parallel);
    case 3:
      return dispatch_silu<T, 3>(a, parallel);
    case 4:
      return dispatch_silu<T, 4>(a, parallel);
    default:
      return dispatch_silu<T, kAnyWidth>(a, parallel);
  }
}

}  // namespace

void causal_conv1d_forward(const Args& a, const Parallel& parallel) {
  fill_table_for(a);
  if (a.type.bits == 32) return dispatch_width<float>(a, parallel);
  if (a.type.code == 4) return dispatch_width<bf16>(a, parallel);
  return dispatch_width<f16>(a, parallel);
}

}  // namespace mambasdk::MAMBASDK_ISA
