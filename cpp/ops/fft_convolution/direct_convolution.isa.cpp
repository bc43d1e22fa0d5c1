// Convolution with few taps: sums of products in register tiles of steps, lanes are channels.
#include "ops/fft_convolution/lanes_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr int kTileSteps = 8, kTileTaps = 4;

struct Plan {
  Index blocks, chunks, tasks, slots, kernel, size;  // blocks of channels, chunks of steps; floats of scratch

  explicit Plan(const Args& a) {
    blocks = (a.channels + kLanes - 1) / kLanes;
    chunks = (a.length + kDirectSteps - 1) / kDirectSteps;
    tasks = a.batch * blocks * chunks;
    slots = min64(tasks, 64);
    kernel = (a.taps + kTileTaps) * kLanes;
    size = kernel + (kDirectSteps + a.taps) * kLanes;
  }
};

// y[t0], … of kCount steps. x: a vector for each step, from step t0 - taps + 1 on where there are so many.
template <int kCount, class T>
MAMBASDK_SIMD void tile(const Args& a, const float* x, const float* kernel, vf skip, Index b, Index t0, Index d,
                        int lanes) {
  vf sum[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) sum[i] = load(x + (t0 + i) * kLanes) * skip;
  Index k = 0;
  const Index whole = min64(a.taps, t0 + 1);  // taps that all steps of the tile have
  for (; k + kTileTaps <= whole; k += kTileTaps) {
    vf w[kTileTaps];
#pragma GCC unroll 4
    for (int j = 0; j < kTileTaps; ++j) w[j] = load(kernel + (k + j) * kLanes);
#pragma GCC unroll 16
    for (int i = 1 - kTileTaps; i < kCount; ++i) {
      const vf value = load(x + (t0 - k + i) * kLanes);
#pragma GCC unroll 4
      for (int j = 0; j < kTileTaps; ++j)
        if (i + j >= 0 && i + j < kCount) sum[i + j] = fma(w[j], value, sum[i + j]);
    }
  }
  for (; k < a.taps && k < t0 + kCount; ++k) {
    const vf w = load(kernel + k * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i)
      if (t0 + i - k >= 0) sum[i] = fma(w, load(x + (t0 + i - k) * kLanes), sum[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) store_n(output_of<T>(a, b, t0 + i, d), sum[i], lanes);
}

template <class T>
[[gnu::noinline]] void run_task(const Args& a, const Plan& plan, float* scratch, Index task) {
  const Index b = task / (plan.blocks * plan.chunks), d = task / plan.chunks % plan.blocks * kLanes;
  const Index begin = task % plan.chunks * kDirectSteps, end = min64(begin + kDirectSteps, a.length);
  const int lanes = static_cast<int>(min64(kLanes, a.channels - d));
  const Steps<float> taps = taps_of(a, d, lanes);
  for (Index k = 0; k < a.taps; ++k) store(scratch + k * kLanes, taps.at(k));
  const vf skip = skip_of(a, d, lanes);
  // Each step is read once for every tap: from a copy, where steps are neighbours whatever their distance in x.
  const Index first = begin > a.taps ? begin - a.taps : 0;
  const float* x = scratch + plan.kernel - first * kLanes;
  const Steps<T> steps = steps_of<T>(a, b, d, lanes);
  for (Index t = first; t < end; ++t) store(scratch + plan.kernel + (t - first) * kLanes, steps.at(t));
  Index t = begin;
  for (; t + kTileSteps <= end; t += kTileSteps) tile<kTileSteps, T>(a, x, scratch, skip, b, t, d, lanes);
  for (; t < end; ++t) tile<1, T>(a, x, scratch, skip, b, t, d, lanes);
}

}  // namespace

std::int64_t direct_convolution_workspace_bytes(const Args& a) {
  const Plan plan(a);
  return plan.slots * plan.size * static_cast<Index>(sizeof(float));
}

void direct_convolution(const Args& a, void* workspace, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.type == dtype::bf16, direct_convolution(a, workspace, parallel));
  const Plan plan(a);
  auto* scratch = static_cast<float*>(workspace);
  const Index work = min64(a.length, kDirectSteps) * (a.taps + 1) * plan.tasks / plan.slots;
  parallel(plan.slots, 1 + 4096 / (work + 1), [&](Index begin, Index end) {
    const Index last = end * plan.tasks / plan.slots;
    for (Index t = begin * plan.tasks / plan.slots; t < last; ++t)
      with_own_type(a.type, [&]<class T>(T) { run_task<T>(a, plan, scratch + begin * plan.size, t); });
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
