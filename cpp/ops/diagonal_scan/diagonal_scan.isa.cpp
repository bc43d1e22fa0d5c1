// diagonal_scan, forward and backward (contract: diagonal_scan.hpp). Channels in vector lanes, the state in registers,
// one pass over memory. Complex numbers stay interleaved: two lanes each.
#include "ops/diagonal_scan/diagonal_scan.hpp"

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr int kVectors = 4;  // of one task: enough independent recurrences to hide the latency of FMA

MAMBASDK_SIMD std::int64_t min64(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}

struct RealNumbers {
  static constexpr int kParts = 1;
  struct Factor {
    vf re;
  };
  MAMBASDK_SIMD Factor factor(vf a) { return {a}; }
  MAMBASDK_SIMD Factor conjugate(vf a) { return {a}; }
  MAMBASDK_SIMD vf multiply(Factor a, vf x) { return a.re * x; }
};

struct ComplexNumbers {
  static constexpr int kParts = 2;
  struct Factor {
    vf re, im;  // im is negated in the lanes that make the real part
  };
  MAMBASDK_SIMD vf pick(vf x, int even, int odd) {  // lanes (2i+even, 2i+odd)
    vi order;
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) order[i] = (i & ~1) + ((i & 1) ? odd : even);
    return __builtin_shuffle(x, order);
  }
  MAMBASDK_SIMD vf alternating(float even) {
    vf x;
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) x[i] = (i & 1) ? -even : even;
    return x;
  }
  MAMBASDK_SIMD Factor factor(vf a) { return {pick(a, 0, 0), pick(a, 1, 1) * alternating(-1.0f)}; }
  MAMBASDK_SIMD Factor conjugate(vf a) { return {pick(a, 0, 0), pick(a, 1, 1) * alternating(1.0f)}; }
  MAMBASDK_SIMD vf multiply(Factor a, vf x) { return a.re * x + a.im * pick(x, 1, 0); }
};

// Lanes [lane, lane+n) of a row of numbers that are `stride` numbers apart.
template <class Numbers, class T>
MAMBASDK_SIMD vf load_lanes(const T* row, std::int64_t stride, std::int64_t lane, int n) {
  if (stride == 1) return load_n(row + lane, n);
  alignas(64) float gathered[kLanes] = {};
  for (int i = 0; i < n; ++i) {
    const std::int64_t number = (lane + i) / Numbers::kParts, part = (lane + i) % Numbers::kParts;
    gathered[i] = to_float(row[number * stride * Numbers::kParts + part]);
  }
  return load(gathered);
}

// One input along time: `first` is step 0 of a batch entry, in lanes.
template <class Numbers, class T>
struct Series {
  const T* first;
  std::int64_t step, channel;

  MAMBASDK_SIMD Series of(const ScanInput& in, std::int64_t batch, std::int64_t length, bool reverse) {
    constexpr std::int64_t parts = Numbers::kParts;
    if (!in.data) return {nullptr, 0, 1};
    const std::int64_t start = batch * in.stride[0] + (reverse ? (length - 1) * in.stride[1] : 0);
    return {static_cast<const T*>(in.data) + start * parts, (reverse ? -in.stride[1] : in.stride[1]) * parts,
            in.stride[2]};
  }
  MAMBASDK_SIMD Series output(void* data, std::int64_t batch, std::int64_t length, std::int64_t channels,
                              bool reverse) {
    return of({data, {length * channels, channels, 1}}, batch, length, reverse);
  }
  MAMBASDK_ALWAYS_INLINE vf read(std::int64_t t, std::int64_t lane, int n) const {
    return load_lanes<Numbers>(first + t * step, channel, lane, n);
  }
  MAMBASDK_ALWAYS_INLINE void write(std::int64_t t, std::int64_t lane, int n, vf x) const {
    store_n(const_cast<T*>(first) + t * step + lane, x, n);
  }
};

template <class Numbers, class T, int NV>
void forward_block(const DiagonalScan& call, std::int64_t batch, std::int64_t lane, int n) {
  using S = Series<Numbers, T>;
  const S b = S::of(call.b, batch, call.length, call.reverse), a = S::of(call.a, batch, call.length, call.reverse);
  const S out = S::output(call.x, batch, call.length, call.channels, call.reverse);
  const S initial = S::of(call.initial_state, batch, 1, false);
  vf x[NV];
  typename Numbers::Factor factor[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) x[v] = initial.first ? initial.read(0, lane + v * kLanes, n) : zero();
  if (a.step == 0 && call.length > 0) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) factor[v] = Numbers::factor(a.read(0, lane + v * kLanes, n));
    for (std::int64_t t = 0; t < call.length; ++t) {
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        x[v] = Numbers::multiply(factor[v], x[v]) + b.read(t, lane + v * kLanes, n);
        out.write(t, lane + v * kLanes, n, x[v]);
      }
    }
  } else {
    for (std::int64_t t = 0; t < call.length; ++t) {
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        x[v] =
            Numbers::multiply(Numbers::factor(a.read(t, lane + v * kLanes, n)), x[v]) + b.read(t, lane + v * kLanes, n);
        out.write(t, lane + v * kLanes, n, x[v]);
      }
    }
  }
  if (!call.final_state) return;
  const S final_state = S::output(call.final_state, batch, 1, call.channels, false);
  for (int v = 0; v < NV; ++v) final_state.write(0, lane + v * kLanes, n, x[v]);
}

// Calls f<NV>(first lane, lanes per vector) for one of the blocks that the lanes fall into.
template <class F>
MAMBASDK_SIMD void for_block(std::int64_t lanes, std::int64_t block, F&& f) {
  const std::int64_t begin = block * kVectors * kLanes, end = min64(begin + kVectors * kLanes, lanes);
  if (end - begin == kVectors * kLanes) return f.template run<kVectors>(begin, kLanes);
  for (std::int64_t lane = begin; lane < end; lane += kLanes)
    f.template run<1>(lane, static_cast<int>(min64(kLanes, end - lane)));
}
MAMBASDK_SIMD std::int64_t block_count(std::int64_t lanes) {
  return (lanes + kVectors * kLanes - 1) / (kVectors * kLanes);
}

template <class Numbers, class T>
struct ForwardBlock {
  const DiagonalScan& call;
  std::int64_t batch;
  template <int NV>
  void run(std::int64_t lane, int n) const {
    forward_block<Numbers, T, NV>(call, batch, lane, n);
  }
};

template <class Numbers, class T>
void forward(const DiagonalScan& call, const Parallel& parallel) {
  const std::int64_t lanes = call.channels * Numbers::kParts, blocks = block_count(lanes);
  const std::int64_t grain = 1 + 4096 / (call.length + 1);
  parallel(call.batch * blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) for_block(lanes, t % blocks, ForwardBlock<Numbers, T>{call, t / blocks});
  });
}

// g_t = grad_x_t + conj(a_{t+1}) g_{t+1}; grad_a_t = g_t conj(x_{t-1}). Where a is shared, `sums` collects its
// gradient: (batch, lanes) when shared along time, else (length in scan order, lanes), added to.
template <class Numbers, class T, int NV>
void backward_block(const DiagonalScanBackward& call, std::int64_t batch, std::int64_t lane, int n, float* sums) {
  using S = Series<Numbers, T>;
  const std::int64_t lanes = call.channels * Numbers::kParts;
  const S grad_x = S::of(call.grad_x, batch, call.length, call.reverse);
  const S a = S::of(call.a, batch, call.length, call.reverse), x = S::of(call.x, batch, call.length, call.reverse);
  const S initial = S::of(call.initial_state, batch, 1, false);
  const S grad_final = S::of(call.grad_final_state, batch, 1, false);
  const S grad_b = S::output(call.grad_b, batch, call.length, call.channels, call.reverse);
  const S grad_a = S::output(call.grad_a, batch, call.length, call.channels, call.reverse);
  vf g[NV], sum[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) {
    g[v] = grad_final.first ? grad_final.read(0, lane + v * kLanes, n) : zero();
    sum[v] = zero();
  }
  for (std::int64_t t = call.length - 1; t >= 0; --t) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const std::int64_t at = lane + v * kLanes;
      g[v] += grad_x.read(t, at, n);
      grad_b.write(t, at, n, g[v]);
      vf before = zero();
      if (t > 0)
        before = x.read(t - 1, at, n);
      else if (initial.first)
        before = initial.read(0, at, n);
      const vf da = Numbers::multiply(Numbers::conjugate(before), g[v]);
      if (call.shared_length)
        sum[v] += da;
      else if (call.shared_batch)
        store_n(sums + t * lanes + at, load_n(static_cast<const float*>(sums) + t * lanes + at, n) + da, n);
      else
        grad_a.write(t, at, n, da);
      g[v] = Numbers::multiply(Numbers::conjugate(a.read(t, at, n)), g[v]);
    }
  }
  for (int v = 0; v < NV; ++v) {
    if (call.shared_length) store_n(sums + batch * lanes + lane + v * kLanes, sum[v], n);
    if (call.grad_initial_state)
      S::output(call.grad_initial_state, batch, 1, call.channels, false).write(0, lane + v * kLanes, n, g[v]);
  }
}

template <class Numbers, class T>
struct BackwardBlock {
  const DiagonalScanBackward& call;
  std::int64_t batch;
  float* sums;
  template <int NV>
  void run(std::int64_t lane, int n) const {
    backward_block<Numbers, T, NV>(call, batch, lane, n, sums);
  }
};

template <class Numbers, class T>
void backward(const DiagonalScanBackward& call, float* sums, const Parallel& parallel) {
  const std::int64_t lanes = call.channels * Numbers::kParts, blocks = block_count(lanes);
  const std::int64_t grain = 1 + 4096 / (call.length + 1);
  T* grad_a = static_cast<T*>(call.grad_a);
  if (call.shared_batch && !call.shared_length) {  // one task per block of channels goes through the whole batch
    parallel(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t block = begin; block < end; ++block) {
        const std::int64_t first = block * kVectors * kLanes, last = min64(first + kVectors * kLanes, lanes);
        for (std::int64_t t = 0; t < call.length; ++t)
          for (std::int64_t i = first; i < last; ++i) sums[t * lanes + i] = 0.0f;
        for (std::int64_t batch = 0; batch < call.batch; ++batch)
          for_block(lanes, block, BackwardBlock<Numbers, T>{call, batch, sums});
        for (std::int64_t t = 0; t < call.length; ++t) {
          T* row = grad_a + (call.reverse ? call.length - 1 - t : t) * lanes;
          for (std::int64_t i = first; i < last; i += kLanes) {
            const int n = static_cast<int>(min64(kLanes, last - i));
            store_n(row + i, load_n(static_cast<const float*>(sums) + t * lanes + i, n), n);
          }
        }
      }
    });
    return;
  }
  parallel(call.batch * blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t)
      for_block(lanes, t % blocks, BackwardBlock<Numbers, T>{call, t / blocks, sums});
  });
  if (!call.shared_length) return;
  const std::int64_t rows = call.shared_batch ? 1 : call.batch, summed = call.shared_batch ? call.batch : 1;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < lanes; ++i) {
      float sum = 0.0f;
      for (std::int64_t batch = 0; batch < summed; ++batch) sum += sums[(row + batch) * lanes + i];
      grad_a[row * lanes + i] = from_float<T>::cast(sum);
    }
  }
}

}  // namespace

void diagonal_scan(const DiagonalScan& call, const Parallel& parallel) {
  if (call.dtype == dtype::f32) return forward<RealNumbers, float>(call, parallel);
  if (call.dtype == dtype::bf16) return forward<RealNumbers, bf16>(call, parallel);
  if (call.dtype == dtype::f16) return forward<RealNumbers, f16>(call, parallel);
  forward<ComplexNumbers, float>(call, parallel);
}

std::int64_t diagonal_scan_backward_workspace_bytes(const DiagonalScanBackward& call) {
  const std::int64_t rows = call.shared_length ? call.batch : call.shared_batch ? call.length : 0;
  return rows * call.channels * 2 * static_cast<std::int64_t>(sizeof(float));
}

void diagonal_scan_backward(const DiagonalScanBackward& call, void* workspace, const Parallel& parallel) {
  float* sums = static_cast<float*>(workspace);
  if (call.dtype == dtype::f32) return backward<RealNumbers, float>(call, sums, parallel);
  if (call.dtype == dtype::bf16) return backward<RealNumbers, bf16>(call, sums, parallel);
  if (call.dtype == dtype::f16) return backward<RealNumbers, f16>(call, sums, parallel);
  backward<ComplexNumbers, float>(call, sums, parallel);
}

}  // namespace mambasdk::MAMBASDK_ISA
