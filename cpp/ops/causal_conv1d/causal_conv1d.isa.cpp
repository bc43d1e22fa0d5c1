// causal_conv1d, vectorised: channels in lanes, the sliding window in registers. A work item is a group of tiles times
// kBlockChannels channels, visited with channels innermost so that rows of x come in whole. Columns that are strided or
// narrower than a vector go through a packed copy of the tile, so the inner loops know full vectors only.
#include "ops/causal_conv1d/causal_conv1d.hpp"

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace causal_conv1d;
using Index = std::int64_t;

template <class T>
MAMBASDK_SIMD vf load_lanes(const T* p, Index stride, int n) {
  if (stride == 1) return load_n(p, n);
  alignas(64) T lanes[kLanes] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i * stride];
  return load(static_cast<const T*>(lanes));
}

template <class T>
MAMBASDK_SIMD void pack_rows(T* out, const T* in, Index row_stride, Index lane_stride, Index rows, int n) {
  for (Index r = 0; r < rows; ++r) {
    for (int i = 0; i < n; ++i) out[r * kLanes + i] = in[r * row_stride + i * lane_stride];
    for (int i = n; i < kLanes; ++i) out[r * kLanes + i] = T{};
  }
}

// What a column of kLanes channels needs from every tile.
template <int K>
struct Column {
  Index channel;
  int n;  // channels in use
  vf w[K];
  vf bias;
};

template <int K>
MAMBASDK_SIMD Column<K> make_column(const Args& a, Index channel) {
  Column<K> c;
  const Index padded = padded_channels(a.channels);
  c.channel = channel;
  c.n = a.channels - channel < kLanes ? static_cast<int>(a.channels - channel) : kLanes;
  for (int k = 0; k < K; ++k) c.w[k] = load(a.table + k * padded + channel);
  c.bias = load(a.table + K * padded + channel);
  return c;
}

template <class T>
MAMBASDK_SIMD const T* row(const Array& a, Index i, Index j, Index channel) {
  return static_cast<const T*>(a.data) + i * a.stride[0] + j * a.stride[1] + channel * a.stride[2];
}

// The K-1 inputs before the tile: of the sequence itself, of its initial state, or zeros.
template <class T, int K>
MAMBASDK_SIMD void load_window(const Args& a, const Tile& tile, const Column<K>& c, vf (&window)[K - 1]) {
  for (int j = 0; j < K - 1; ++j) {
    const Index t = tile.begin - (K - 1) + j;
    if (t >= tile.first) {
      window[j] = load_lanes(row<T>(a.x, tile.batch, t, c.channel), a.x.stride[2], c.n);
    } else if (a.initial_state.data != nullptr) {
      window[j] = load_lanes(row<T>(a.initial_state, tile.sequence, t - tile.first + (K - 1), c.channel),
                             a.initial_state.stride[2], c.n);
    } else {
      window[j] = zero();
    }
  }
}

template <int K>
MAMBASDK_SIMD vf convolve(const Column<K>& c, const vf (&window)[K - 1], vf x) {
  vf u = c.bias + c.w[0] * window[0];
  for (int k = 1; k < K - 1; ++k) u = u + c.w[k] * window[k];
  return u + c.w[K - 1] * x;
}

template <int N>
MAMBASDK_SIMD void push(vf (&window)[N], vf x) {
  for (int j = 0; j < N - 1; ++j) window[j] = window[j + 1];
  window[N - 1] = x;
}

template <class T, int K, bool kSilu>
MAMBASDK_SIMD void forward_rows(const Column<K>& c, vf (&window)[K - 1], const T* x, Index x_stride, T* y,
                                Index y_stride, Index rows) {
#pragma GCC unroll 4
  for (Index t = 0; t < rows; ++t) {
    const vf in = load(x + t * x_stride);
    const vf u = convolve(c, window, in);
    push(window, in);
    store(y + t * y_stride, kSilu ? silu(u) : u);
  }
}

template <class T, int K, bool kSilu>
void forward_item(const Args& a, Index group, Index block) {
  const Tiling& tiling = a.tiling;
  const Index tile_begin = group * tiling.tiles_per_group;
  const Index tile_end =
      tile_begin + tiling.tiles_per_group < tiling.tiles ? tile_begin + tiling.tiles_per_group : tiling.tiles;
  const Index channel_begin = block * kBlockChannels;
  const Index channel_end = channel_begin + kBlockChannels < a.channels ? channel_begin + kBlockChannels : a.channels;
  for (Index channel = channel_begin; channel < channel_end; channel += kLanes) {
    const Column<K> c = make_column<K>(a, channel);
    for (Index i = tile_begin; i < tile_end; ++i) {
      const Tile tile = tiling.tile(i);
      const Index rows = tile.end - tile.begin;
      vf window[K - 1];
      load_window<T, K>(a, tile, c, window);
      const T* x = row<T>(a.x, tile.batch, tile.begin, channel);
      T* y = static_cast<T*>(a.y) + (tile.batch * tiling.length + tile.begin) * a.channels + channel;
      if (a.x.stride[2] == 1 && c.n == kLanes) {
        forward_rows<T, K, kSilu>(c, window, x, a.x.stride[1], y, a.channels, rows);
        continue;
      }
      alignas(64) T packed[kTileRows * kLanes];
      pack_rows(packed, x, a.x.stride[1], a.x.stride[2], rows, c.n);
      forward_rows<T, K, kSilu>(c, window, static_cast<const T*>(packed), kLanes, packed, kLanes, rows);
      for (Index r = 0; r < rows; ++r) {
        for (int lane = 0; lane < c.n; ++lane) y[r * a.channels + lane] = packed[r * kLanes + lane];
      }
    }
  }
}

// ---- backward ----

// g = dL/du of one step, from dL/dy and the recomputed u.
template <bool kSilu>
MAMBASDK_SIMD vf grad_preactivation(vf grad_y, vf u) {
  if constexpr (!kSilu) return grad_y;
  const vf s = sigmoid(u);
  return grad_y * (s + u * s * (1.0f - s));
}

// Streams through [begin, end + K-1): step t makes g_t and completes grad_x of step t-K+1, which is sum_k w_k g_{t-k}.
// Steps past `end` only complete grad_x; the next tile adds them to the weights' gradient.
template <class T, int K, bool kSilu>
struct BackwardColumn {
  const Column<K>& c;
  vf window[K - 1];  // x_{t-K+1} .. x_{t-1}
  vf grads[K - 1];   // g_{t-K+1} .. g_{t-1}
  vf (&grad_w)[K];
  vf& grad_bias;

  template <bool kAccumulate>
  MAMBASDK_ALWAYS_INLINE vf step(vf x, vf grad_y) {
    vf g = grad_y;
    if constexpr (kSilu) g = grad_preactivation<kSilu>(grad_y, convolve(c, window, x));
    if constexpr (kAccumulate) {
      for (int k = 0; k < K - 1; ++k) grad_w[k] = grad_w[k] + g * window[k];
      grad_w[K - 1] = grad_w[K - 1] + g * x;
      grad_bias = grad_bias + g;
    }
    push(window, x);
    return complete(g);
  }
  MAMBASDK_ALWAYS_INLINE vf complete(vf g) {
    vf grad_x = c.w[K - 1] * grads[0];
    for (int k = 1; k < K - 1; ++k) grad_x = grad_x + c.w[K - 1 - k] * grads[k];
    grad_x = grad_x + c.w[0] * g;
    push(grads, g);
    return grad_x;
  }
};

template <class T, int K, bool kSilu>
MAMBASDK_SIMD void backward_tile(const BackwardArgs& b, const Tile& tile, const Column<K>& c, vf (&grad_w)[K],
                                 vf& grad_bias) {
  const Args& a = b.forward;
  const Index rows = tile.end - tile.begin;
  const Index reach = (tile.last - tile.begin < rows + K - 1) ? tile.last - tile.begin : rows + K - 1;  // rows to read
  BackwardColumn<T, K, kSilu> column{c, {}, {}, grad_w, grad_bias};
  load_window<T, K>(a, tile, c, column.window);

  const T* x = row<T>(a.x, tile.batch, tile.begin, c.channel);
  const T* gy = row<T>(b.grad_y, tile.batch, tile.begin, c.channel);
  T* gx = static_cast<T*>(b.grad_x) + (tile.batch * a.tiling.length + tile.begin) * a.channels + c.channel;
  Index x_stride = a.x.stride[1], gy_stride = b.grad_y.stride[1], gx_stride = a.channels;
  alignas(64) T packed_x[(kTileRows + K - 1) * kLanes];
  alignas(64) T packed_gy[(kTileRows + K - 1) * kLanes];
  alignas(64) T packed_gx[kTileRows * kLanes];
  const bool narrow = c.n < kLanes;
  if (narrow || a.x.stride[2] != 1) {
    pack_rows(packed_x, x, x_stride, a.x.stride[2], reach, c.n);
    x = packed_x;
    x_stride = kLanes;
  }
  if (narrow || b.grad_y.stride[2] != 1) {
    pack_rows(packed_gy, gy, gy_stride, b.grad_y.stride[2], reach, c.n);
    gy = packed_gy;
    gy_stride = kLanes;
  }
  T* out = narrow ? packed_gx : gx;
  if (narrow) gx_stride = kLanes;

  // Completes step `done` (relative to the tile), which may lie in the initial state, or takes part in the final one.
  const auto emit = [&](Index done, vf grad) __attribute__((always_inline)) {
    const Index t = tile.begin + done;
    const Index j = t - tile.last + (K - 1);  // row of the final state that holds step t
    if (j >= 0 && b.grad_final_state.data != nullptr) {
      grad =
          grad + load_lanes(row<T>(b.grad_final_state, tile.sequence, j, c.channel), b.grad_final_state.stride[2], c.n);
    }
    if (done >= 0) {
      store(out + done * gx_stride, grad);
    } else if (t < tile.first && b.grad_initial_state != nullptr) {
      T* state = static_cast<T*>(b.grad_initial_state) +
                 (tile.sequence * (K - 1) + t - tile.first + (K - 1)) * a.channels + c.channel;
      store_n(state, grad, c.n);
    }
  };
  Index t = 0;
  const Index head = rows < K - 1 ? rows : K - 1;
  for (; t < head; ++t) emit(t - (K - 1), column.template step<true>(load(x + t * x_stride), load(gy + t * gy_stride)));
#pragma GCC unroll 2
  for (; t < rows; ++t) {
    store(out + (t - (K - 1)) * gx_stride,
          column.template step<true>(load(x + t * x_stride), load(gy + t * gy_stride)));
  }
  for (; t < reach; ++t)
    emit(t - (K - 1), column.template step<false>(load(x + t * x_stride), load(gy + t * gy_stride)));
  for (; t < rows + K - 1; ++t) emit(t - (K - 1), column.complete(zero()));
  if (narrow) {
    for (Index r = 0; r < rows; ++r) {
      for (int lane = 0; lane < c.n; ++lane) gx[r * a.channels + lane] = packed_gx[r * kLanes + lane];
    }
  }
}

template <class T, int K, bool kSilu>
void backward_item(const BackwardArgs& b, Index group, Index block) {
  const Args& a = b.forward;
  const Tiling& tiling = a.tiling;
  const Index tile_begin = group * tiling.tiles_per_group;
  const Index tile_end =
      tile_begin + tiling.tiles_per_group < tiling.tiles ? tile_begin + tiling.tiles_per_group : tiling.tiles;
  const Index padded = padded_channels(a.channels);
  const Index channel_begin = block * kBlockChannels;
  const Index channel_end = channel_begin + kBlockChannels < a.channels ? channel_begin + kBlockChannels : a.channels;
  for (Index channel = channel_begin; channel < channel_end; channel += kLanes) {
    const Column<K> c = make_column<K>(a, channel);
    vf grad_w[K] = {};
    vf grad_bias = zero();
    for (Index i = tile_begin; i < tile_end; ++i) backward_tile<T, K, kSilu>(b, tiling.tile(i), c, grad_w, grad_bias);
    float* partial = b.partial + group * (K + 1) * padded + channel;
    for (int k = 0; k < K; ++k) store(partial + k * padded, grad_w[k]);
    store(partial + K * padded, grad_bias);
  }
}

// Sums the groups' parts in a fixed order, two levels deep to keep float32's error small.
MAMBASDK_SIMD vf sum_groups(const float* partial, Index groups, Index stride) {
  vf total = zero();
  for (Index g = 0; g < groups; g += 32) {
    vf part = zero();
    const Index end = g + 32 < groups ? g + 32 : groups;
    for (Index i = g; i < end; ++i) part = part + load(partial + i * stride);
    total = total + part;
  }
  return total;
}

template <class W>
void reduce_weights(const BackwardArgs& b, Index block) {
  const Args& a = b.forward;
  const Index padded = padded_channels(a.channels);
  const Index groups = a.tiling.groups();
  const Index end = (block + 1) * kBlockChannels < a.channels ? (block + 1) * kBlockChannels : a.channels;
  for (Index channel = block * kBlockChannels; channel < end; channel += kLanes) {
    const int n = end - channel < kLanes ? static_cast<int>(end - channel) : kLanes;
    for (int k = 0; k <= a.width; ++k) {
      const vf sum = sum_groups(b.partial + k * padded + channel, groups, (a.width + 1) * padded);
      alignas(64) W lanes[kLanes];
      store(static_cast<W*>(lanes), sum);
      if (k == a.width) {
        if (b.grad_bias != nullptr) {
          for (int i = 0; i < n; ++i) static_cast<W*>(b.grad_bias)[channel + i] = lanes[i];
        }
      } else {
        for (int i = 0; i < n; ++i) static_cast<W*>(b.grad_weight)[(channel + i) * a.width + k] = lanes[i];
      }
    }
  }
}

// ---- dispatch ----

template <class W>
void fill_table(const Args& a) {
  const Index padded = padded_channels(a.channels);
  const W* weight = static_cast<const W*>(a.weight);
  const W* bias = static_cast<const W*>(a.bias);
  for (int k = 0; k < a.width; ++k) {
    float* out = a.table + k * padded;
    const W* in = weight + k * a.weight_stride[1];
    for (Index d = 0; d < a.channels; ++d) out[d] = to_float(in[d * a.weight_stride[0]]);
    for (Index d = a.channels; d < padded; ++d) out[d] = 0.0f;
  }
  float* out = a.table + a.width * padded;
  for (Index d = 0; d < padded; ++d)
    out[d] = bias != nullptr && d < a.channels ? to_float(bias[d * a.bias_stride]) : 0.0f;
}

template <class T, int K>
struct Width {
  static void forward(const Args& a, const Parallel& parallel, Index grain) {
    const Index blocks = (a.channels + kBlockChannels - 1) / kBlockChannels;
    parallel(a.tiling.groups() * blocks, grain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        if (a.silu) {
          forward_item<T, K, true>(a, i / blocks, i % blocks);
        } else {
          forward_item<T, K, false>(a, i / blocks, i % blocks);
        }
      }
    });
  }
  static void backward(const BackwardArgs& b, const Parallel& parallel, Index grain) {
    const Args& a = b.forward;
    const Index blocks = (a.channels + kBlockChannels - 1) / kBlockChannels;
    parallel(a.tiling.groups() * blocks, grain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        if (a.silu) {
          backward_item<T, K, true>(b, i / blocks, i % blocks);
        } else {
          backward_item<T, K, false>(b, i / blocks, i % blocks);
        }
      }
    });
  }
};

template <class T, class A>
void dispatch_width(const A& args, int width, const Parallel& parallel, Index grain) {
  const auto run = [&](auto w) __attribute__((always_inline)) {
    if constexpr (__is_same(A, Args)) {
      decltype(w)::forward(args, parallel, grain);
    } else {
      decltype(w)::backward(args, parallel, grain);
    }
  };
  switch (width) {
    case 2:
      return run(Width<T, 2>{});
    case 3:
      return run(Width<T, 3>{});
    case 4:
      return run(Width<T, 4>{});
    case 5:
      return run(Width<T, 5>{});
    case 6:
      return run(Width<T, 6>{});
    case 7:
      return run(Width<T, 7>{});
    default:
      return run(Width<T, 8>{});
  }
}

template <class A>
void dispatch_type(const A& args, const Args& a, const Parallel& parallel) {
  // A range should be worth its hand-over: some 16 K elements.
  const Index groups = a.tiling.groups();
  const Index elements = (a.tiling.steps / (groups > 0 ? groups : 1) + 1) * kBlockChannels;
  const Index grain = 16384 / elements > 1 ? 16384 / elements : 1;
  if (a.type.bits == 32) return dispatch_width<float>(args, a.width, parallel, grain);
  if (a.type.code == 4) return dispatch_width<bf16>(args, a.width, parallel, grain);
  return dispatch_width<f16>(args, a.width, parallel, grain);
}

void fill_table_for(const Args& a) {
  if (a.weight_type.bits == 32) return fill_table<float>(a);
  if (a.weight_type.code == 4) return fill_table<bf16>(a);
  return fill_table<f16>(a);
}

}  // namespace

void causal_conv1d_forward(const Args& args, const Parallel& parallel) {
  fill_table_for(args);
  dispatch_type(args, args, parallel);
}

void causal_conv1d_backward(const BackwardArgs& args, const Parallel& parallel) {
  const Args& a = args.forward;
  fill_table_for(a);
  dispatch_type(args, a, parallel);
  const Index blocks = (a.channels + kBlockChannels - 1) / kBlockChannels;
  parallel(blocks, 1, [&](Index begin, Index end) {
    for (Index block = begin; block < end; ++block) {
      if (a.weight_type.bits == 32) {
        reduce_weights<float>(args, block);
      } else if (a.weight_type.code == 4) {
        reduce_weights<bf16>(args, block);
      } else {
        reduce_weights<f16>(args, block);
      }
    }
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
