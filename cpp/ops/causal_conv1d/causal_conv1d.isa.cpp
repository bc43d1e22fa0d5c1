// causal_conv1d forward, vectorised: channels in lanes, four or eight steps at a time. A work item is a group of tiles
// times kBlockChannels channels, so that memory sees long pieces of neighbouring rows.
#include "ops/causal_conv1d/tile_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// Rows that are added to y, from the same step on; none where the kernel has no residual.
template <class T>
struct ResidualRows {
  const T* base = nullptr;
  Index stride = 0;

  MAMBASDK_ALWAYS_INLINE ResidualRows from(Index t) const { return {base + t * stride, stride}; }
};

// V vectors of channels of R steps: in[r] and y hold their first. Each x is widened once, and one conversion narrows a
// pair.
template <class T, int K, bool kSilu, bool kResidual, int R, int V>
MAMBASDK_SIMD void forward_vectors(const T* const (&in)[R + kCapacity<K> - 1], Index x_stride, const float* table,
                                   int width, ResidualRows<T> residual, T* y, Index y_stride, Index c) {
  vf xs[R + kCapacity<K> - 1][V];
  for (int r = 0; r < width - 1; ++r) {
    for (int v = 0; v < V; ++v) xs[r][v] = in_register(load(in[r] + c + v * kLanes));
  }
  vf w[kCapacity<K> + 1][V] = {};
  for (int k = 0; k <= width; ++k) {
    for (int v = 0; v < V; ++v) w[k][v] = load(table + k * kBlockChannels + c + v * kLanes);
  }
  MAMBASDK_UNROLL
  for (int r = 0; r < R; ++r) {
    prefetch_vectors<V>(in[r + width - 1] + R * x_stride + c);  // which the hardware does not foresee
    prefetch_vectors<V>(y + (R + r) * y_stride + c);
    vf u[V];
    for (int v = 0; v < V; ++v) {
      xs[r + width - 1][v] = in_register(load(in[r + width - 1] + c + v * kLanes));
      u[v] = w[width][v];
      for (int k = 0; k < width; ++k) u[v] = u[v] + w[k][v] * xs[r + k][v];
      if (kSilu) u[v] = silu_for<T>(u[v]);
      if constexpr (kResidual) u[v] = u[v] + load(residual.base + r * residual.stride + c + v * kLanes);
    }
    if constexpr (V == 2) {
      store_pair(y + r * y_stride + c, u[0], u[1]);
    } else {
      store(y + r * y_stride + c, u[0]);
    }
  }
}

// R steps of a block of whole vectors.
template <class T, int K, bool kSilu, bool kResidual, int R>
[[gnu::noinline]] void forward_steps(const TileRows<T>& x, Index t, const Block& block, ResidualRows<T> residual, T* y,
                                     Index y_stride) {
  const int width = K == kAnyWidth ? block.width : K;
  const T* in[R + kCapacity<K> - 1];
  for (int r = 0; r < R + width - 1; ++r) in[r] = x[t - (width - 1) + r];
  Index c = 0;
  for (; c + 2 * kLanes <= block.channels; c += 2 * kLanes) {
    forward_vectors<T, K, kSilu, kResidual, R, 2>(in, x.stride, block.table, width, residual, y, y_stride, c);
  }
  if (c < block.channels) {
    forward_vectors<T, K, kSilu, kResidual, R, 1>(in, x.stride, block.table, width, residual, y, y_stride, c);
  }
}

// One step of any block; residual may be null.
template <class T>
[[gnu::noinline]] void forward_step(const TileRows<T>& x, Index t, const Block& block, bool with_silu,
                                    const T* residual, T* y) {
  const T* in[kMaxWidth];
  for (int k = 0; k < block.width; ++k) in[k] = x[t - (block.width - 1) + k];
  for (Index c = 0; c < block.channels; c += kLanes) {
    const int n = block.channels - c < kLanes ? static_cast<int>(block.channels - c) : kLanes;
    vf u = load(block.table + block.width * kBlockChannels + c);
    for (int k = 0; k < block.width; ++k) u = u + load(block.table + k * kBlockChannels + c) * load_n(in[k] + c, n);
    if (with_silu) u = silu_for<T>(u);
    if (residual != nullptr) u = u + load_n(residual + c, n);
    store_n(y + c, u, n);
  }
}

template <class T, int K, bool kSilu, bool kResidual>
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
        ResidualRows<T> residual;
        if constexpr (kResidual) {
          residual = {row<T>(a.residual, tile.batch, tile.begin, block.channel), a.residual.stride[1]};
        }
        Index t = 0;
        if (block.is_whole()) {
          constexpr int kSteps = kStepsAtOnce<T>;
          for (; t + kSteps <= rows; t += kSteps) {
            forward_steps<T, K, kSilu, kResidual, kSteps>(x, t, block, residual.from(t), y + t * stride, stride);
          }
          if (kSteps > 4 && t + 4 <= rows) {
            forward_steps<T, K, kSilu, kResidual, 4>(x, t, block, residual.from(t), y + t * stride, stride);
            t += 4;
          }
        }
        for (; t < rows; ++t) {
          forward_step<T>(x, t, block, kSilu, kResidual ? residual.from(t).base : nullptr, y + t * stride);
        }
      }
    });
  });
}

template <class T, int K>
void dispatch_silu(const Args& a, const Parallel& parallel) {
  return a.silu ? forward_items<T, K, true, false>(a, parallel) : forward_items<T, K, false, false>(a, parallel);
}

template <class T>
void dispatch_width(const Args& a, const Parallel& parallel) {
  if (a.residual.data != nullptr) {
    if (a.silu) return forward_items<T, kAnyWidth, true, true>(a, parallel);
    return forward_items<T, kAnyWidth, false, true>(a, parallel);
  }
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
  MAMBASDK_SHARE_AVX512(a.type == dtype::bf16, causal_conv1d_forward(a, parallel));
  fill_table_for(a);
  with_own_type(a.type, [&]<class T>(T) { dispatch_width<T>(a, parallel); });
}

}  // namespace mambasdk::MAMBASDK_ISA
