// causal_conv1d backward, vectorised: one pass over x and dL/dy recomputes the values before SiLU, completes dL/dx
// and sums the weights' gradients.
//
// With u_t the value before SiLU and g_t = dL/du_t: dL/dx_t = sum_k w_k g_{t+K-1-k}. So step t completes step
// t-(K-1), and the last K-1 g are carried, in the first-level cache, from one group of steps to the next.
#include "ops/causal_conv1d/tile_simd.hpp"
#include "ops/vector_sums.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// One tile of one block.
template <class T>
struct BackwardTile {
  const TileRows<T>& x;
  const T* grad_y;  // step `begin` of the tile
  Index grad_y_stride;
  float* grads;    // (K-1, kBlockChannels): the last g
  float* partial;  // (K+1, kBlockChannels): sums of the weights' and the bias'
                   // gradients, from the block's channel on
  bool with_silu;
};

// R steps of a block of whole vectors; out[r] takes dL/dx of step t+r-(K-1).
template <class T, int K, bool kSilu, int R>
[[gnu::noinline]] void backward_steps(const BackwardTile<T>& tile, Index t, const Block& block, T* const (&out)[R],
                                      Index out_stride) {
  const int width = K == kAnyWidth ? block.width : K;
  const int history = width - 1;
  const T* in[R + kCapacity<K> - 1];
  for (int r = 0; r < R + history; ++r) in[r] = tile.x[t - history + r];
  const T* gy = tile.grad_y + t * tile.grad_y_stride;
  for (Index c = 0; c < block.channels; c += kLanes) {
    vf xs[R + kCapacity<K> - 1];
    for (int r = 0; r < R + history; ++r) xs[r] = in_register(load(in[r] + c));
    for (int r = 0; r < R; ++r) {  // the next R rows, which the hardware does not foresee
      prefetch_vectors<1>(in[r + history] + R * tile.x.stride + c);
      prefetch_vectors<1>(gy + (R + r) * tile.grad_y_stride + c);
      prefetch_vectors<1>(out[r] + R * out_stride + c);
    }
    vf fresh[R];
    if constexpr (kSilu) {
      for (int r = 0; r < R; ++r) fresh[r] = load(block.table + width * kBlockChannels + c);
      for (int k = 0; k < width; ++k) {
        const vf w = in_register(load(block.table + k * kBlockChannels + c));
        for (int r = 0; r < R; ++r) fresh[r] = fresh[r] + w * xs[r + k];
      }
      for (int r = 0; r < R; ++r) fresh[r] = load(gy + r * tile.grad_y_stride + c) * silu_slope_for<T>(fresh[r]);
    } else {
      for (int r = 0; r < R; ++r) fresh[r] = load(gy + r * tile.grad_y_stride + c);
    }
    vf g[R + kCapacity<K> - 1];
    for (int j = 0; j < history; ++j) g[j] = load(tile.grads + j * kBlockChannels + c);
    for (int r = 0; r < R; ++r) g[history + r] = fresh[r];
    vf grad_x[R] = {};
    for (int k = 0; k < width; ++k) {
      const vf w = in_register(load(block.table + k * kBlockChannels + c));
      float* sum = tile.partial + k * kBlockChannels + c;
      vf part = fresh[0] * xs[k];
      for (int r = 1; r < R; ++r) part = part + fresh[r] * xs[r + k];
      store(sum, load(sum) + part);
      for (int r = 0; r < R; ++r) grad_x[r] = grad_x[r] + w * g[r + history - k];
    }
    float* sum = tile.partial + width * kBlockChannels + c;
    vf part = fresh[0];
    for (int r = 1; r < R; ++r) part = part + fresh[r];
    store(sum, load(sum) + part);
    for (int r = 0; r < R; ++r) store(out[r] + c, grad_x[r]);
    for (int j = 0; j < history; ++j) store(tile.grads + j * kBlockChannels + c, g[R + j]);
  }
}

enum class Step {
  own,      // of this tile
  next,     // the next tile's: completes dL/dx, and that tile sums the weights'
            // gradients
  past_end  // of the sequence: g is zero, and `more`, a row of the final state's
            // gradient, may come in
};

// One step of any block.
template <class T>
[[gnu::noinline]] void backward_step(const BackwardTile<T>& tile, Index t, const Block& block, Step step, const T* more,
                                     T* out) {
  const int history = block.width - 1;
  const bool inside = step != Step::past_end;
  const T* in[kMaxWidth];
  for (int k = 0; inside && k < block.width; ++k) in[k] = tile.x[t - history + k];
  const T* gy = tile.grad_y + t * tile.grad_y_stride;
  for (Index c = 0; c < block.channels; c += kLanes) {
    const int n = block.channels - c < kLanes ? static_cast<int>(block.channels - c) : kLanes;
    vf g = zero();
    if (inside) {
      g = load_n(gy + c, n);
      if (tile.with_silu) {
        vf u = load(block.table + block.width * kBlockChannels + c);
        for (int k = 0; k < block.width; ++k) u = u + load(block.table + k * kBlockChannels + c) * load_n(in[k] + c, n);
        g = g * silu_slope_for<T>(u);
      }
    }
    if (step == Step::own) {
      for (int k = 0; k < block.width; ++k) {
        float* sum = tile.partial + k * kBlockChannels + c;
        store(sum, load(sum) + g * load_n(in[k] + c, n));
      }
      float* sum = tile.partial + block.width * kBlockChannels + c;
      store(sum, load(sum) + g);
    }
    vf grad_x = more != nullptr ? load_n(more + c, n) : zero();
    grad_x = grad_x + load(block.table + c) * g;
    for (int j = 0; j < history; ++j) {  // the g of j-(K-1) steps ago moves one row up
      float* carried = tile.grads + j * kBlockChannels + c;
      grad_x = grad_x + load(block.table + (history - j) * kBlockChannels + c) * load(carried);
      store(carried, j + 1 < history ? load(carried + kBlockChannels) : g);
    }
    store_n(out + c, grad_x, n);
  }
}

// Buffers of a work item.
template <class T>
struct Buffers {
  TileRows<T> x;
  alignas(64) T packed_grad_y[(kTileRows + kMaxWidth - 1) * kPackedChannels];
  alignas(64) T nowhere[kBlockChannels];
  alignas(64) T more[kBlockChannels];
  alignas(64) float grads[(kMaxWidth - 1) * kBlockChannels];
};

template <class T, int K, bool kSilu>
void backward_tile(const BackwardArgs& b, const Tile& tile, const Block& block, float* partial, Buffers<T>& buffers) {
  const Args& a = b.forward;
  const Index history = a.width - 1;
  const Index rows = tile.end - tile.begin;
  const Index left = tile.last - tile.begin;
  const Index reach = left < rows + history ? left : rows + history;
  buffers.x.fill(a, tile, block, reach);
  for (Index i = 0; i < history * kBlockChannels; ++i) buffers.grads[i] = 0.0f;
  BackwardTile<T> work{
      buffers.x, row<T>(b.grad_y, tile.batch, tile.begin, block.channel), b.grad_y.stride[1], buffers.grads, partial,
      kSilu};
  if (b.grad_y.stride[2] != 1) {
    for (Index t = 0; t < reach; ++t) {
      copy_row(buffers.packed_grad_y + t * kPackedChannels, work.grad_y + t * work.grad_y_stride, b.grad_y.stride[2],
               block.channels);
    }
    work.grad_y = buffers.packed_grad_y;
    work.grad_y_stride = kPackedChannels;
  }
  T* grad_x = row<T>(b.grad_x, tile.batch, tile.begin, block.channel);
  const Index grad_x_stride = b.grad_x.stride[1];
  // What a step completes: of this tile, of the initial state, or of the tile before, which has done it itself.
  const auto out_of = [&](Index t) __attribute__((always_inline)) -> T* {
    const Index done = t - history;
    if (done >= 0) return grad_x + done * grad_x_stride;
    if (tile.begin + done >= tile.first || b.grad_initial_state.data == nullptr || tile.initial < 0) {
      return buffers.nowhere;
    }
    const Index j = tile.begin + done - tile.first + history;
    return row<T>(b.grad_initial_state, tile.initial, j, block.channel);
  };
  Index t = 0;
  if (block.is_whole()) {
    for (; t + 4 <= rows; t += 4) {
      T* const out[4] = {out_of(t), out_of(t + 1), out_of(t + 2), out_of(t + 3)};
      backward_steps<T, K, kSilu, 4>(work, t, block, out, grad_x_stride);
    }
  }
  for (; t < reach; ++t) backward_step<T>(work, t, block, t < rows ? Step::own : Step::next, nullptr, out_of(t));
  for (; t < rows + history; ++t) {
    const T* more = nullptr;
    if (b.grad_final_state.data != nullptr && tile.final >= 0) {
      copy_row(buffers.more, row<T>(b.grad_final_state, tile.final, tile.begin + t - tile.last, block.channel),
               b.grad_final_state.stride[2], block.channels);
      more = buffers.more;
    }
    backward_step<T>(work, t, block, Step::past_end, more, out_of(t));
  }
}

template <class T, int K, bool kSilu>
void backward_items(const BackwardArgs& b, const Parallel& parallel) {
  const Args& a = b.forward;
  for_items(a, parallel, [&](Index group, Index index) {
    Buffers<T> buffers;
    const bool packed = a.x.stride[2] != 1 || b.grad_y.stride[2] != 1;
    for_blocks(a, index, packed, [&](const Block& block) __attribute__((always_inline)) {
      const Index item = group * (padded_channels(a.channels) / kBlockChannels) + index;
      float* partial = b.partial + item * (a.width + 1) * kBlockChannels + (block.channel - index * kBlockChannels);
      for (int k = 0; k <= a.width; ++k) {
        for (Index c = 0; c < block.channels; c += kLanes) store(partial + k * kBlockChannels + c, zero());
      }
      for (Index i = group * a.tiling.tiles_per_group; i < group_end(a.tiling, group); ++i) {
        backward_tile<T, K, kSilu>(b, a.tiling.tile(i), block, partial, buffers);
      }
    });
  });
}

inline constexpr Index kReducedChannels = 64;

template <class W>
void reduce_weights(const BackwardArgs& b, Index block) {
  const Args& a = b.forward;
  const Index padded = padded_channels(a.channels);
  const Index groups = a.tiling.groups();
  const Index end = (block + 1) * kReducedChannels < a.channels ? (block + 1) * kReducedChannels : a.channels;
  for (Index channel = block * kReducedChannels; channel < end; channel += kLanes) {
    const int n = end - channel < kLanes ? static_cast<int>(end - channel) : kLanes;
    for (int k = 0; k <= a.width; ++k) {
      const Index block_row = channel / kBlockChannels * (a.width + 1) + k;
      const float* partial = b.partial + block_row * kBlockChannels + channel % kBlockChannels;
      const vf sum = sum_parts<32>(partial, groups, (a.width + 1) * padded);
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

template <class T, int K>
void dispatch_silu(const BackwardArgs& b, const Parallel& parallel) {
  return b.forward.silu ? backward_items<T, K, true>(b, parallel) : backward_items<T, K, false>(b, parallel);
}

template <class T>
void dispatch_width(const BackwardArgs& b, const Parallel& parallel) {
  switch (b.forward.width) {
    case 2:
      return dispatch_silu<T, 2>(b, parallel);
    case 3:
      return dispatch_silu<T, 3>(b, parallel);
    case 4:
      return dispatch_silu<T, 4>(b, parallel);
    default:
      return dispatch_silu<T, kAnyWidth>(b, parallel);
  }
}

}  // namespace

void causal_conv1d_backward(const BackwardArgs& b, const Parallel& parallel) {
  const Args& a = b.forward;
  MAMBASDK_SHARE_AVX512(a.type == dtype::bf16, causal_conv1d_backward(b, parallel));
  fill_table_for(a);
  with_own_type(a.type, [&]<class T>(T) { dispatch_width<T>(b, parallel); });
  const Index blocks = (a.channels + kReducedChannels - 1) / kReducedChannels;
  parallel(blocks, 2, [&](Index begin, Index end) {
    with_type(a.weight_type, [&]<class W>(W) {
      for (Index block = begin; block < end; ++block) reduce_weights<W>(b, block);
    });
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
