// How the vector kernels cut a scan into tiles: channel blocks of kLanes, steps and sequences, and the moves between
// strided tensors and float32 tiles. For *.isa.cpp only.
#pragma once

#include "core/simd_types.hpp"
#include "kernels/transpose.hpp"
#include "ops/selective_scan/scan_args.hpp"
#include "ops/selective_scan/scan_exp.hpp"

namespace mambasdk::MAMBASDK_ISA {

using namespace selective_scan;

using Index = std::int64_t;

MAMBASDK_SIMD Index lesser(Index a, Index b) {
  return a < b ? a : b;
}
MAMBASDK_SIMD Index greater(Index a, Index b) {
  return a > b ? a : b;
}
MAMBASDK_SIMD Index ceil_div(Index a, Index b) {
  return (a + b - 1) / b;
}

template <class T>
MAMBASDK_SIMD const T* input(const StridedView& v) {
  return static_cast<const T*>(v.data);
}
template <class T>
MAMBASDK_SIMD T* output(const StridedView& v) {
  return static_cast<T*>(v.data);
}

// Channels are cut into blocks that do not cross a group; a task takes neighbouring blocks of one group. By shape
// alone.
struct ChannelPlan {
  Index group_channels;  // D/G
  Index group_blocks;    // blocks in a group
  Index task_blocks;     // blocks in a task, at most
  Index group_tasks;     // tasks in a group
  Index tasks;           // per batch

  static MAMBASDK_ALWAYS_INLINE ChannelPlan make(const SelectiveScanArgs& a, Index most_blocks, Index wanted_tasks) {
    ChannelPlan p;
    p.group_channels = a.groups > 0 ? a.channels / a.groups : 0;
    p.group_blocks = ceil_div(p.group_channels, kLanes);
    const Index blocks = p.group_blocks * a.groups * greater(a.batch, 1);
    p.task_blocks = greater(1, lesser(lesser(most_blocks, p.group_blocks), blocks / wanted_tasks));
    p.group_tasks = ceil_div(p.group_blocks, p.task_blocks);
    p.tasks = p.group_tasks * a.groups;
    return p;
  }
};

struct Task {
  Index group;
  Index first_channel;  // of block 0
  Index end_channel;    // one past the last channel
  Index blocks;

  static MAMBASDK_ALWAYS_INLINE Task make(const ChannelPlan& p, Index task) {
    Task t;
    t.group = task / p.group_tasks;
    const Index block = (task % p.group_tasks) * p.task_blocks;
    t.blocks = lesser(p.task_blocks, p.group_blocks - block);
    t.first_channel = t.group * p.group_channels + block * kLanes;
    t.end_channel = lesser(t.first_channel + t.blocks * kLanes, (t.group + 1) * p.group_channels);
    return t;
  }
  MAMBASDK_ALWAYS_INLINE Index channel(Index block) const { return first_channel + block * kLanes; }
  MAMBASDK_ALWAYS_INLINE int lanes(Index block) const {
    return static_cast<int>(lesser(kLanes, end_channel - channel(block)));
  }
};

// ---- sequences ----

// Part of a tile that belongs to one sequence.
struct Segment {
  Index begin, end;  // steps within the tile
  Index sequence;
  bool starts, ends;  // the sequence's first or last step is here
};

struct Sequences {
  const SelectiveScanArgs* args;
  Index batch;

  MAMBASDK_ALWAYS_INLINE bool packed() const { return args->cu_seqlens.data != nullptr; }
  MAMBASDK_ALWAYS_INLINE Index first() const { return packed() ? 0 : batch; }
  MAMBASDK_ALWAYS_INLINE Index last() const { return packed() ? args->sequences : batch + 1; }
  MAMBASDK_ALWAYS_INLINE Index bound(Index s) const {
    return input<std::int32_t>(args->cu_seqlens)[s * args->cu_seqlens.stride[0]];
  }
  MAMBASDK_ALWAYS_INLINE Index begin(Index s) const { return packed() ? bound(s) : 0; }
  MAMBASDK_ALWAYS_INLINE Index end(Index s) const { return packed() ? bound(s + 1) : args->steps; }

  // The non-empty sequence that holds `step`.
  MAMBASDK_ALWAYS_INLINE Index find(Index step) const {
    Index low = first(), high = last() - 1;
    while (low < high) {
      const Index middle = (low + high) / 2;
      if (end(middle) > step) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  // Segments of steps [t0, t1); returns how many. `out` holds t1 - t0.
  MAMBASDK_ALWAYS_INLINE Index segments(Index t0, Index t1, Segment* out) const {
    Index count = 0;
    Index s = find(t0);
    for (Index t = t0; t < t1; ++s) {
      const Index stop = end(s);
      if (stop <= t) continue;
      const Index until = lesser(stop, t1);
      out[count++] = {t - t0, until - t0, s, t == begin(s), until == stop};
      t = until;
    }
    return count;
  }
};

// ---- tiles: rows of kLanes floats ----

// Rows of channels [0, n) at positions `at`, as float32; lanes from n on are 0. A channel stride other than 1 is
// gathered one channel at a time.
template <class T>
MAMBASDK_SIMD void load_rows(float* tile, const T* base, Index row_stride, Index lane_stride, const Index* at,
                             Index rows, int n) {
  if (lane_stride == 1 && n == kLanes) {
    for (Index i = 0; i < rows; ++i) store(tile + i * kLanes, load(base + at[i] * row_stride));
  } else if (lane_stride == 1) {
    for (Index i = 0; i < rows; ++i) store(tile + i * kLanes, load_n(base + at[i] * row_stride, n));
  } else {
    if (n < kLanes) {
      for (Index i = 0; i < rows; ++i) store(tile + i * kLanes, zero());
    }
    for (int c = 0; c < n; ++c) {
      const T* column = base + c * lane_stride;
      for (Index i = 0; i < rows; ++i) tile[i * kLanes + c] = to_float(column[at[i] * row_stride]);
    }
  }
}

// One vector of per-channel parameters.
MAMBASDK_SIMD vf load_lanes(const float* base, Index stride, int n) {
  if (stride == 1) return load_n(base, n);
  alignas(64) float buffer[kLanes] = {};
  for (int c = 0; c < n; ++c) buffer[c] = base[c * stride];
  return load(static_cast<const float*>(buffer));
}

// (channel, state) matrix, strided, to rows of states with channels in lanes, and back. Squares of neighbouring states
// are transposed in registers.
[[maybe_unused]] static __attribute__((noinline)) void load_states(float* tile, const float* base, Index channel_stride,
                                                                   Index state_stride, Index states, int n,
                                                                   float scale) {
  Index s = 0;
  for (; state_stride == 1 && s + kLanes <= states; s += kLanes) {
    vf square[kLanes];
    for (int c = 0; c < kLanes; ++c) square[c] = c < n ? load(base + c * channel_stride + s) * scale : zero();
    transpose(square);
    for (int i = 0; i < kLanes; ++i) store(tile + (s + i) * kLanes, square[i]);
  }
  for (; s < states; ++s) {
    alignas(64) float buffer[kLanes] = {};
    for (int c = 0; c < n; ++c) buffer[c] = base[c * channel_stride + s * state_stride] * scale;
    store(tile + s * kLanes, load(static_cast<const float*>(buffer)));
  }
}
[[maybe_unused]] static __attribute__((noinline)) void store_states(float* base, Index channel_stride,
                                                                    Index state_stride, const float* tile, Index states,
                                                                    int n) {
  Index s = 0;
  for (; state_stride == 1 && s + kLanes <= states; s += kLanes) {
    vf square[kLanes];
    for (int i = 0; i < kLanes; ++i) square[i] = load(tile + (s + i) * kLanes);
    transpose(square);
    for (int c = 0; c < n; ++c) store(base + c * channel_stride + s, square[c]);
  }
  for (; s < states; ++s) {
    for (int c = 0; c < n; ++c) base[c * channel_stride + s * state_stride] = tile[s * kLanes + c];
  }
}

// Rows of B or C: `states` values per step as float32, packed.
template <class T>
MAMBASDK_SIMD void load_projection(float* tile, const T* base, Index row_stride, Index state_stride, const Index* at,
                                   Index rows, Index states) {
  for (Index i = 0; i < rows; ++i) {
    const T* row = base + at[i] * row_stride;
    float* out = tile + i * states;
    Index s = 0;
    if (state_stride == 1) {
      for (; s + kLanes <= states; s += kLanes) store(out + s, load(row + s));
    }
    for (; s < states; ++s) out[s] = to_float(row[s * state_stride]);
  }
}

// Positions of steps [t0, t0 + count) in u and y, and rows of delta, B and C.
MAMBASDK_SIMD void load_order(const SelectiveScanArgs& a, Index route, Index t0, Index count, Index* position,
                              Index* row) {
  if (a.order.data == nullptr) {
    for (Index i = 0; i < count; ++i) position[i] = row[i] = t0 + i;
    return;
  }
  const std::int32_t* order = input<std::int32_t>(a.order) + route * a.order.stride[0];
  for (Index i = 0; i < count; ++i) {
    position[i] = order[(t0 + i) * a.order.stride[1]];
    row[i] = a.step_params ? t0 + i : position[i];
  }
}

// The same, with the last one repeated up to `capacity`.
MAMBASDK_SIMD void load_order_padded(const SelectiveScanArgs& a, Index route, Index t0, Index count, Index capacity,
                                     Index* position, Index* row) {
  load_order(a, route, t0, count, position, row);
  for (Index i = count; i < capacity; ++i) {
    position[i] = position[count - 1];
    row[i] = row[count - 1];
  }
}

// softplus(x) and its slope, sigmoid(x).
MAMBASDK_SIMD vf softplus(vf x, vf& slope) {
  const vf e = exp(from_bits(bits_of(x) | 0x80000000u));
  const vf q = 1.0f / (1.0f + e);
  slope = select(x < zero(), e * q, q);
  return max(zero(), x) + log1p_unit(e);
}

// Rows of one tensor: row i starts at base + at[i] * stride.
template <class T>
struct Rows {
  const T* base;
  Index stride;
  const Index* at;

  MAMBASDK_ALWAYS_INLINE const T* operator()(Index i) const { return base + at[i] * stride; }
};

// Rows that the tile after this one reads, or that this one will write: a loop over steps prefetches one row of each
// per step, so that the requests spread over its arithmetic.
struct Ahead {
  struct Stream {
    const char* base;
    Index stride;  // bytes
    const Index* at;
  };
  static constexpr int kStreams = 4;
  Stream streams[kStreams];

  static MAMBASDK_ALWAYS_INLINE Ahead nothing(const Index* iota) {
    Ahead ahead;
    for (Stream& s : ahead.streams) s = {reinterpret_cast<const char*>(iota), 0, iota};
    return ahead;
  }
  template <class T>
  MAMBASDK_ALWAYS_INLINE void set(int i, const T* base, Index stride, const Index* at) {
    streams[i] = {reinterpret_cast<const char*>(base), stride * static_cast<Index>(sizeof(T)), at};
  }
  MAMBASDK_ALWAYS_INLINE void prefetch(Index t) const {
    MAMBASDK_UNROLL
    for (int i = 0; i < kStreams; ++i) __builtin_prefetch(streams[i].base + streams[i].at[t] * streams[i].stride);
  }
};

MAMBASDK_SIMD vi larger_bits(vi most, vf x) {  // of magnitudes; NaN is the largest
  const vi bits = (vi)(bits_of(x) & 0x7fffffffu);
#if defined(__AVX512F__)
  return (vi)_mm512_max_epi32((__m512i)most, (__m512i)bits);
#elif defined(__AVX2__)
  return (vi)_mm256_max_epi32((__m256i)most, (__m256i)bits);
#else
  const vi mask = bits > most;
  return (bits & mask) | (most & ~mask);
#endif
}
// Which exp2 a tile needs: that of the fast range of |delta * A|, the clamped one, or the one that forgets.
enum class Reach : std::uint8_t { fast, clamped, forgetting };
MAMBASDK_SIMD Reach reach_of(vi largest_delta, vf largest_A) {
  const vf reach = (vf)largest_delta * largest_A;
  const vi fast = reach <= kExpFastLimit, kept = reach <= kForgottenLimit;
  bool all_fast = true, all_kept = true;
  for (int c = 0; c < kLanes; ++c) {
    all_fast &= fast[c] != 0;
    all_kept &= kept[c] != 0;
  }
  return all_fast ? Reach::fast : all_kept ? Reach::clamped : Reach::forgetting;
}

// The largest |A| over the states, per lane (NaN stays NaN).
MAMBASDK_SIMD vf largest_magnitude(const float* A, Index states) {
  vf most = zero();
  for (Index s = 0; s < states; ++s) {
    const vf x = load(A + s * kLanes);
    const vf magnitude = from_bits(bits_of(x) & 0x7fffffffu);
    most = select(magnitude <= most, most, magnitude);
  }
  return most;
}

}  // namespace mambasdk::MAMBASDK_ISA
