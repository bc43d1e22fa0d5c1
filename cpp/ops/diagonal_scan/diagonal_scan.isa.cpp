// diagonal_scan, forward and backward (contract: diagonal_scan.hpp). Channels in vector lanes, the state in registers,
// one pass over memory. Complex numbers stay interleaved: two lanes each.
#include "ops/diagonal_scan/diagonal_scan.hpp"

#include "core/simd_types.hpp"
#include "kernels/flush_denormals.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace diagonal_scan;

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
  template <int kEven, int kOdd>
  struct Pairs {
    static constexpr int at(int i) { return (i & ~1) + ((i & 1) != 0 ? kOdd : kEven); }
  };
  template <int kEven, int kOdd>  // lanes (2i+even, 2i+odd)
  MAMBASDK_SIMD vf pick(vf x) {
    return shuffle<Pairs<kEven, kOdd>>(x, x);
  }
  MAMBASDK_SIMD vf alternating(float even) {
    vf x{};
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) x[i] = (i & 1) ? -even : even;
    return x;
  }
  MAMBASDK_SIMD Factor factor(vf a) { return {pick<0, 0>(a), pick<1, 1>(a) * alternating(-1.0f)}; }
  MAMBASDK_SIMD Factor conjugate(vf a) { return {pick<0, 0>(a), pick<1, 1>(a) * alternating(1.0f)}; }
  MAMBASDK_SIMD vf multiply(Factor a, vf x) { return a.re * x + a.im * pick<1, 0>(x); }
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

// Where a sequence lies.
struct Span {
  std::int64_t batch, first, length;

  MAMBASDK_SIMD Span of(const Sequences& all, std::int64_t sequence) {
    if (all.offsets == nullptr) return {sequence, 0, all.length};
    return {0, all.offsets[sequence], all.offsets[sequence + 1] - std::int64_t{all.offsets[sequence]}};
  }
  // Of a state, which has no length.
  MAMBASDK_SIMD Span state(std::int64_t sequence) { return {sequence, 0, 1}; }
};

// One input along time: `first` is step 0 of a sequence, in lanes.
template <class Numbers, class T>
struct Series {
  const T* first;
  std::int64_t step, channel;

  MAMBASDK_SIMD Series of(const StridedView& in, const Span& span, bool reverse) {
    constexpr std::int64_t parts = Numbers::kParts;
    if (!in.data) return {nullptr, 0, 1};
    const std::int64_t start =
        span.batch * in.stride[0] + (span.first + (reverse ? span.length - 1 : 0)) * in.stride[1];
    return {static_cast<const T*>(in.data) + start * parts, (reverse ? -in.stride[1] : in.stride[1]) * parts,
            in.stride[2]};
  }
  // length: of a batch entry.
  MAMBASDK_SIMD Series output(void* data, const Span& span, std::int64_t length, std::int64_t channels, bool reverse) {
    return of({data, {length * channels, channels, 1}}, span, reverse);
  }
  MAMBASDK_ALWAYS_INLINE vf read(std::int64_t t, std::int64_t lane, int n) const {
    return load_lanes<Numbers>(first + t * step, channel, lane, n);
  }
  MAMBASDK_ALWAYS_INLINE void write(std::int64_t t, std::int64_t lane, int n, vf x) const {
    store_n(const_cast<T*>(first) + t * step + lane, x, n);
  }
};

template <class Numbers, class T, int NV>
void forward_block(const ForwardArgs& call, std::int64_t sequence, std::int64_t lane, int n) {
  using S = Series<Numbers, T>;
  const Span span = Span::of(call.sequences, sequence), state = Span::state(sequence);
  const S b = S::of(call.b, span, call.reverse), a = S::of(call.a, span, call.reverse);
  const S out = S::output(call.x, span, call.sequences.length, call.channels, call.reverse);
  const S initial = S::of(call.initial_state, state, false);
  vf x[NV];
  typename Numbers::Factor factor[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) x[v] = initial.first ? initial.read(0, lane + v * kLanes, n) : zero();
  if (a.step == 0 && span.length > 0) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) factor[v] = Numbers::factor(a.read(0, lane + v * kLanes, n));
    for (std::int64_t t = 0; t < span.length; ++t) {
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        x[v] = Numbers::multiply(factor[v], x[v]) + b.read(t, lane + v * kLanes, n);
        out.write(t, lane + v * kLanes, n, x[v]);
      }
    }
  } else {
    for (std::int64_t t = 0; t < span.length; ++t) {
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        x[v] =
            Numbers::multiply(Numbers::factor(a.read(t, lane + v * kLanes, n)), x[v]) + b.read(t, lane + v * kLanes, n);
        out.write(t, lane + v * kLanes, n, x[v]);
      }
    }
  }
  if (!call.final_state) return;
  const S final_state = S::output(call.final_state, state, 1, call.channels, false);
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
// Tasks of a range: some 4096 steps.
MAMBASDK_SIMD std::int64_t grain_of(const Sequences& all) {
  const std::int64_t steps = all.offsets == nullptr || all.count == 0 ? all.length : all.length / all.count;
  return 1 + 4096 / (steps + 1);
}
MAMBASDK_SIMD std::int64_t block_count(std::int64_t lanes) {
  return (lanes + kVectors * kLanes - 1) / (kVectors * kLanes);
}

template <class Numbers, class T>
struct ForwardBlock {
  const ForwardArgs& call;
  std::int64_t sequence;
  template <int NV>
  void run(std::int64_t lane, int n) const {
    forward_block<Numbers, T, NV>(call, sequence, lane, n);
  }
};

template <class Numbers, class T>
void forward(const ForwardArgs& call, const Parallel& parallel) {
  const std::int64_t lanes = call.channels * Numbers::kParts, blocks = block_count(lanes);
  parallel(call.sequences.count * blocks, grain_of(call.sequences), [&](std::int64_t begin, std::int64_t end) {
    const FlushDenormals flush;
    for (std::int64_t t = begin; t < end; ++t) for_block(lanes, t % blocks, ForwardBlock<Numbers, T>{call, t / blocks});
  });
}

// g_t = grad_x_t + conj(a_{t+1}) g_{t+1}; grad_a_t = g_t conj(x_{t-1}). Where a is shared, `sums` collects its
// gradient: (sequence, lanes) when shared along time, else (length in scan order, lanes), added to.
template <class Numbers, class T, int NV>
void backward_block(const BackwardArgs& call, std::int64_t sequence, std::int64_t lane, int n, float* sums) {
  using S = Series<Numbers, T>;
  const std::int64_t lanes = call.channels * Numbers::kParts;
  const Span span = Span::of(call.sequences, sequence), state = Span::state(sequence);
  const S grad_x = S::of(call.grad_x, span, call.reverse);
  const S a = S::of(call.a, span, call.reverse), x = S::of(call.x, span, call.reverse);
  const S initial = S::of(call.initial_state, state, false);
  const S grad_final = S::of(call.grad_final_state, state, false);
  const S grad_b = S::output(call.grad_b, span, call.sequences.length, call.channels, call.reverse);
  const S grad_a = S::output(call.grad_a, span, call.sequences.length, call.channels, call.reverse);
  vf g[NV], sum[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) {
    g[v] = grad_final.first ? grad_final.read(0, lane + v * kLanes, n) : zero();
    sum[v] = zero();
  }
  for (std::int64_t t = span.length - 1; t >= 0; --t) {
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
    if (call.shared_length) store_n(sums + sequence * lanes + lane + v * kLanes, sum[v], n);
    if (call.grad_initial_state)
      S::output(call.grad_initial_state, state, 1, call.channels, false).write(0, lane + v * kLanes, n, g[v]);
  }
}

template <class Numbers, class T>
struct BackwardBlock {
  const BackwardArgs& call;
  std::int64_t sequence;
  float* sums;
  template <int NV>
  void run(std::int64_t lane, int n) const {
    backward_block<Numbers, T, NV>(call, sequence, lane, n, sums);
  }
};

template <class Numbers, class T>
void backward(const BackwardArgs& call, float* sums, const Parallel& parallel) {
  const std::int64_t lanes = call.channels * Numbers::kParts, blocks = block_count(lanes);
  const std::int64_t count = call.sequences.count, length = call.sequences.length;
  T* grad_a = static_cast<T*>(call.grad_a);
  if (call.shared_batch && !call.shared_length) {  // one task per block of channels goes through the whole batch
    parallel(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t block = begin; block < end; ++block) {
        const std::int64_t first = block * kVectors * kLanes, last = min64(first + kVectors * kLanes, lanes);
        for (std::int64_t t = 0; t < length; ++t)
          for (std::int64_t i = first; i < last; ++i) sums[t * lanes + i] = 0.0f;
        for (std::int64_t batch = 0; batch < count; ++batch)
          for_block(lanes, block, BackwardBlock<Numbers, T>{call, batch, sums});
        for (std::int64_t t = 0; t < length; ++t) {
          T* row = grad_a + (call.reverse ? length - 1 - t : t) * lanes;
          for (std::int64_t i = first; i < last; i += kLanes) {
            const int n = static_cast<int>(min64(kLanes, last - i));
            store_n(row + i, load_n(static_cast<const float*>(sums) + t * lanes + i, n), n);
          }
        }
      }
    });
    return;
  }
  parallel(count * blocks, grain_of(call.sequences), [&](std::int64_t begin, std::int64_t end) {
    const FlushDenormals flush;
    for (std::int64_t t = begin; t < end; ++t)
      for_block(lanes, t % blocks, BackwardBlock<Numbers, T>{call, t / blocks, sums});
  });
  if (!call.shared_length) return;
  const bool one_row = call.shared_batch || call.sequences.offsets != nullptr;
  const std::int64_t rows = one_row ? 1 : count, summed = one_row ? count : 1;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < lanes; ++i) {
      float sum = 0.0f;
      for (std::int64_t j = 0; j < summed; ++j) sum += sums[(row + j) * lanes + i];
      grad_a[row * lanes + i] = from_float<T>::cast(sum);
    }
  }
}

}  // namespace

void diagonal_scan(const diagonal_scan::ForwardArgs& call, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(call.dtype == dtype::bf16, diagonal_scan(call, parallel));
  if constexpr (is_own<float>) {
    if (call.dtype == dtype::c64) return forward<ComplexNumbers, float>(call, parallel);
  }
  with_own_type(call.dtype, [&]<class T>(T) { forward<RealNumbers, T>(call, parallel); });
}

void diagonal_scan_backward(const diagonal_scan::BackwardArgs& call, void* workspace, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(call.dtype == dtype::bf16, diagonal_scan_backward(call, workspace, parallel));
  float* sums = static_cast<float*>(workspace);
  if constexpr (is_own<float>) {
    if (call.dtype == dtype::c64) return backward<ComplexNumbers, float>(call, sums, parallel);
  }
  with_own_type(call.dtype, [&]<class T>(T) { backward<RealNumbers, T>(call, sums, parallel); });
}

}  // namespace mambasdk::MAMBASDK_ISA
