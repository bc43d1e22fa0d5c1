// gru: the recurrent weights are packed once, so that the three gates of a vector of units are three sums in registers,
// and h after the step follows from them there. Few weights stay in each thread's cache, and rows of the batch are
// split; many are split by units, so that every thread's cache holds its own part of them.
#include "ops/gru/gru_args.hpp"

#include "kernels/tile.hpp"
#include "kernels/transpose.hpp"
#include "ops/elementwise/functions_simd.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace gru;
using Index = std::int64_t;

constexpr int kPanelVectors = static_cast<int>(kPanelUnits) / kLanes;
constexpr Index kCachedWeights = 896 << 10;  // bytes of weights that stay in a thread's cache beside all else

Index min64(Index a, Index b) {
  return a < b ? a : b;
}

// Scratch, in floats from its start.
struct Plan {
  Index panels, width;  // of kPanelUnits units; the units with their padding
  Index bias, state, weights, size;
  Index weight_bytes;

  explicit Plan(const Args& a) {
    panels = (a.units + kPanelUnits - 1) / kPanelUnits;
    width = panels * kPanelUnits;
    bias = 0;
    state = 3 * width;
    weights = state + 2 * a.batch * width;
    weight_bytes = 3 * width * a.units * (a.weight_type.bits / 8);
    size = weights + weight_bytes / static_cast<Index>(sizeof(float));
  }
};

// Panel p: for each input, kPanelUnits weights of each gate, those of units from p * kPanelUnits on; zeros past the
// last.
template <class W>
void pack_panel(const Args& a, Index p, W* out) {
  const W* from = static_cast<const W*>(a.weight.data);
  const Index step = a.units > 1 ? a.weight.stride[1] : 1;
  for (Index gate = 0; gate < 3; ++gate) {
    for (Index u0 = 0; u0 < kPanelUnits; u0 += kLanes) {
      for (Index i = 0; i < a.units; i += kLanes) {
        const int count = static_cast<int>(min64(kLanes, a.units - i));
        vf square[kLanes];
        for (int u = 0; u < kLanes; ++u) {
          const Index unit = p * kPanelUnits + u0 + u;
          square[u] = zero();
          if (unit >= a.units) continue;
          const W* row = from + (gate * a.units + unit) * a.weight.stride[0] + i * step;
          square[u] = load_strided(row, step, count);
        }
        transpose(square);
        for (int j = 0; j < count; ++j) store(out + (i + j) * 3 * kPanelUnits + gate * kPanelUnits + u0, square[j]);
      }
    }
  }
}

// The unit of a call that runs: rows and panels of one step.
template <class W>
class Steps {
 public:
  Steps(const Args& args, const Plan& p, float* workspace) : a(args), plan(p), scratch(workspace) {}

  void pack(Index p) const {
    pack_panel(a, p, weights() + p * panel_size());
    const W* bias = static_cast<const W*>(a.bias.data);
    for (Index i = 0; i < 3 * kPanelUnits; ++i) {
      const Index unit = p * kPanelUnits + i % kPanelUnits;
      const bool is_there = bias != nullptr && unit < a.units;
      scratch[plan.bias + p * 3 * kPanelUnits + i] =
          is_there ? to_float(bias[(i / kPanelUnits * a.units + unit) * a.bias.stride[0]]) : 0.0f;
    }
  }

  void start(Index b) const {
    with_own_type(a.type, [&]<class T>(T) {
      const T* initial = static_cast<const T*>(a.initial.data);
      for (Index j = 0; j < plan.width; ++j) {
        const bool is_there = initial != nullptr && j < a.units;
        state(0, b)[j] = is_there ? to_float(initial[b * a.initial.stride[0] + j * a.initial.stride[1]]) : 0.0f;
      }
      T* y = static_cast<T*>(a.y) + b * a.length * a.units;
      for (Index i = steps(b) * a.units; i < a.length * a.units; ++i) y[i] = T{};
    });
  }
  void finish(Index b) const { write_out(state(a.length % 2, b), a.last, a.type, b * a.units, a.units); }

  // Step i of rows [row0, row1), panels [panel0, panel1): many rows share a panel, few share two, so that either way
  // there are enough sums to wait for. The order of a sum does not depend on it.
  void run(Index i, Index row0, Index row1, Index panel0, Index panel1) const {
    const Index whole = row0 + (row1 - row0) / kTileRows * kTileRows;
    for (Index p = panel0; p < panel1 && row0 < whole; ++p)
      for (Index b = row0; b < whole; b += kTileRows) tile<kTileRows, 1>(i, b, p);
    Index p = panel0;
    for (; p + 2 <= panel1; p += 2) few_rows<2>(i, whole, row1, p);
    if (p < panel1) few_rows<1>(i, whole, row1, p);
  }

 private:
  [[nodiscard]] W* weights() const { return reinterpret_cast<W*>(scratch + plan.weights); }
  [[nodiscard]] Index panel_size() const { return 3 * kPanelUnits * a.units; }
  [[nodiscard]] Index steps(Index b) const { return a.lengths != nullptr ? a.lengths[b] : a.length; }
  // h of row b after an even or an odd number of steps.
  [[nodiscard]] float* state(Index parity, Index b) const {
    return scratch + plan.state + (parity * a.batch + b) * plan.width;
  }

  template <int kPanels>
  void few_rows(Index i, Index row0, Index row1, Index p) const {
    Index b = row0;
    if constexpr (kTileRows > 4) {
      if (b + 4 <= row1) {
        tile<4, kPanels>(i, b, p);
        b += 4;
      }
    }
    if (b + 2 <= row1) {
      tile<2, kPanels>(i, b, p);
      b += 2;
    }
    if (b < row1) tile<1, kPanels>(i, b, p);
  }

  template <int kRows, int kPanels>
  [[gnu::noinline]] void tile(Index i, Index b, Index p) const {
    for (int v = 0; v < kPanelVectors; ++v) {
      vf sum[kRows][3 * kPanels];
      clear_tile(sum);
      const W* panel = weights() + p * panel_size() + v * kLanes;
      const float* h = state(i % 2, b);
      for (Index k = 0; k < a.units; ++k) {
        vf w[3 * kPanels];
#pragma GCC unroll 6
        for (int c = 0; c < 3 * kPanels; ++c) w[c] = load(panel + c / 3 * panel_size() + (3 * k + c % 3) * kPanelUnits);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const vf x = set1(h[r * plan.width + k]);
#pragma GCC unroll 6
          for (int c = 0; c < 3 * kPanels; ++c) sum[r][c] = fma(x, w[c], sum[r][c]);
        }
      }
      for (int r = 0; r < kRows; ++r)
        for (int q = 0; q < kPanels; ++q)
          write(i, b + r, (p + q) * kPanelUnits + v * kLanes, sum[r][3 * q], sum[r][3 * q + 1], sum[r][3 * q + 2]);
    }
  }

  // h after step i of row b, units from j on, from the recurrent sums of their gates. One for all tiles.
  [[gnu::noinline]] void write(Index i, Index b, Index j, vf r, vf z, vf n) const {
    const vf h = load(static_cast<const float*>(state(i % 2, b) + j));
    float* after = state((i + 1) % 2, b) + j;
    if (i >= steps(b)) return store(after, h);
    if (j >= a.units) return store(after, zero());
    const Index t = a.reverse ? steps(b) - 1 - i : i;
    const int count = static_cast<int>(min64(kLanes, a.units - j));
    const float* bias = scratch + plan.bias + j / kPanelUnits * 3 * kPanelUnits + j % kPanelUnits;
    with_own_type(a.type, [&]<class T>(T) __attribute__((always_inline)) {
      const Index step = a.gates.stride[2];
      const T* gates = static_cast<const T*>(a.gates.data) + b * a.gates.stride[0] + t * a.gates.stride[1] + j * step;
      const auto input = [&](Index gate) __attribute__((always_inline)) {
        return load_strided(gates + gate * a.units * step, step, count);
      };
      const vf reset = sigmoid(input(0) + (r + load(bias)));
      const vf update = sigmoid(input(1) + (z + load(bias + kPanelUnits)));
      const vf fresh = tanh(fma(reset, n + load(bias + 2 * kPanelUnits), input(2)));
      const vf value = fma(update, h - fresh, fresh);
      store_n(static_cast<T*>(a.y) + (b * a.length + t) * a.units + j, value, count);
      store(after, zero());
      store_n(after, value, count);
    });
  }

  const Args& a;
  const Plan& plan;
  float* scratch;
};

template <class W>
void run(const Args& a, float* scratch, const Parallel& parallel) {
  const Plan plan(a);
  const Steps<W> steps(a, plan, scratch);
  parallel(plan.panels, 1 + 4096 / a.units, [&](Index begin, Index end) {
    for (Index p = begin; p < end; ++p) steps.pack(p);
  });
  const Index pairs = (plan.panels + 1) / 2;
  const Index step_work = a.batch * plan.width * 3 * a.units;
  if (plan.weight_bytes <= kCachedWeights) {
    const Index row_work = plan.width * 3 * a.units * a.length + 1;
    parallel(a.batch, 1 + 65536 / row_work, [&](Index begin, Index end) {
      for (Index b = begin; b < end; ++b) steps.start(b);
      for (Index i = 0; i < a.length; ++i) steps.run(i, begin, end, 0, plan.panels);
      for (Index b = begin; b < end; ++b) steps.finish(b);
    });
    return;
  }
  for (Index b = 0; b < a.batch; ++b) steps.start(b);
  for (Index i = 0; i < a.length; ++i) {
    parallel(pairs, 1 + 65536 / (step_work / pairs + 1),
             [&](Index begin, Index end) { steps.run(i, 0, a.batch, 2 * begin, min64(2 * end, plan.panels)); });
  }
  for (Index b = 0; b < a.batch; ++b) steps.finish(b);
}

}  // namespace

std::int64_t gru_workspace_bytes(const Args& a) {
  return Plan(a).size * static_cast<Index>(sizeof(float));
}

void gru(const Args& a, void* workspace, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.type == dtype::bf16, gru(a, workspace, parallel));
  with_type(a.weight_type, [&]<class W>(W) { run<W>(a, static_cast<float*>(workspace), parallel); });
}

}  // namespace mambasdk::MAMBASDK_ISA
