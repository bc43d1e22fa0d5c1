// Long convolutions by transforms: a task is a vector of channels and a few rows of the batch, which share the
// transformed kernel. The first pass reads x where it lies, the last writes y.
#include "ops/fft_convolution/lanes_simd.hpp"
#include "ops/fft_convolution/transform_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr int kParts = 4;  // of the first and the last pass
constexpr Index kSlots = 64, kSlotFloats = Index{1} << 22, kLeastSlots = 8;

struct Plan {
  Index points, blocks, rows, tasks, slots, roots, size;  // blocks of channels, groups of rows; floats of scratch

  explicit Plan(const Args& a) {
    points = fft_length(a.length, a.taps) / 2;
    blocks = (a.channels + kLanes - 1) / kLanes;
    rows = (a.batch + kBatchTogether - 1) / kBatchTogether;
    tasks = blocks * rows;
    size = 2 * points * kPoint;
    // Long sequences have few groups of tasks, for the sake of memory.
    const Index fit = kSlotFloats * kSlots / size;
    slots = min64(min64(tasks, kSlots), fit > kLeastSlots ? fit : kLeastSlots);
    roots = 6 * points;  // Root and two doubles for each
  }
};

// Coefficients of a polynomial as points: m and m + N of what is there, 0 elsewhere.
template <class T, bool kHalf>
struct Coefficients {
  Steps<T> steps;
  Index count, points;

  MAMBASDK_ALWAYS_INLINE Complex at(Index m) const {
    Complex z{zero(), zero()};
    if (m < count) z.re = steps.at(m);
    if (!kHalf && m + points < count) z.im = steps.at(m + points);
    return z;
  }
};

template <class Source>
MAMBASDK_SIMD void first_pass(const Source& source, Index points, const Levels<kParts>& top, float* out) {
  const Index part = points / kParts;
  for (Index m = 0; m < part; ++m) {
    Complex z[kParts];
    for (int i = 0; i < kParts; ++i) {
      z[i] = source.at(i * part + m);
    }
    top.split(z);
    for (int i = 0; i < kParts; ++i) store_point(out + (i * part + m) * kPoint, z[i]);
  }
}

// kHalf: at most N coefficients, so that imaginary parts are 0 before and unused after; kWhole: all lanes are there.
template <class T, bool kHalf, bool kWhole>
[[gnu::noinline]] void convolve(const Args& a, const Plan& plan, const Root* roots, float* scratch, Index d, int lanes,
                                Index row0, Index row1) {
  const Index part = plan.points / kParts;
  float *x = scratch, *kernel = scratch + plan.points * kPoint;
  const auto source = [&]<class S>(Steps<S> steps, Index count) __attribute__((always_inline)) {
    if constexpr (kWhole) {
      steps.lanes = kLanes;
      steps.channel_stride = 1;
    }
    return Coefficients<S, kHalf>{steps, count, plan.points};
  };
  const vf skip = skip_of(a, d, lanes), scale = set1(1.0f / static_cast<float>(plan.points));
  const bool has_skip = a.skip.data != nullptr;
  const Levels<kParts> top(roots, 1);
  first_pass(source(taps_of(a, d, lanes), a.taps), plan.points, top, kernel);
  for (Index b = row0; b < row1; ++b) {
    const auto coefficients = source(steps_of<T>(a, b, d, lanes), a.length);
    const Steps<T>& steps = coefficients.steps;
    first_pass(coefficients, plan.points, top, x);
    ProductTree(roots, b == row0).multiply_each(kParts, kParts, part, x, kernel);
    const auto write = [&](Index t, vf value) __attribute__((always_inline)) {
      if (t >= a.length) return;
      value = has_skip ? fma(value, scale, steps.at(t) * skip) : value * scale;
      store_n(output_of<T>(a, b, t, d), value, steps.lanes);
    };
    for (Index m = 0; m < part; ++m) {
      Complex z[kParts];
      for (int i = 0; i < kParts; ++i) z[i] = load_point(x + (i * part + m) * kPoint);
      top.join(z);
      for (int i = 0; i < kParts; ++i) {
        write(i * part + m, z[i].re);
        if constexpr (!kHalf) write(plan.points + i * part + m, z[i].im);
      }
    }
  }
}

template <class T>
void run_task(const Args& a, const Plan& plan, const Root* roots, float* scratch, Index task) {
  const Index d = task / plan.rows * kLanes, row0 = task % plan.rows * kBatchTogether;
  const Index row1 = min64(row0 + kBatchTogether, a.batch);
  const int lanes = static_cast<int>(min64(kLanes, a.channels - d));
  const bool half = a.length <= plan.points;
  const bool whole = lanes == kLanes && a.x.stride[2] == 1 && a.kernel.stride[1] == 1;
  if (half) {
    const auto run = whole ? convolve<T, true, true> : convolve<T, true, false>;
    return run(a, plan, roots, scratch, d, lanes, row0, row1);
  }
  const auto run = whole ? convolve<T, false, true> : convolve<T, false, false>;
  run(a, plan, roots, scratch, d, lanes, row0, row1);
}

}  // namespace

std::int64_t fft_convolution_workspace_bytes(const Args& a) {
  const Plan plan(a);
  return (plan.roots + plan.slots * plan.size) * static_cast<Index>(sizeof(float));
}

void fft_convolution(const Args& a, void* workspace, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.type == dtype::bf16, fft_convolution(a, workspace, parallel));
  const Plan plan(a);
  auto* roots = static_cast<Root*>(workspace);
  make_roots(plan.points, roots, reinterpret_cast<double*>(roots + plan.points));
  float* scratch = static_cast<float*>(workspace) + plan.roots;
  parallel(plan.slots, 1, [&](Index begin, Index end) {
    const Index last = end * plan.tasks / plan.slots;
    for (Index t = begin * plan.tasks / plan.slots; t < last; ++t)
      with_own_type(a.type, [&]<class T>(T) { run_task<T>(a, plan, roots, scratch + begin * plan.size, t); });
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
