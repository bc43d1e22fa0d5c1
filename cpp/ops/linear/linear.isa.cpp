// The weight-streaming product of decode steps, and the conversions around the products of longer inputs.
#include "ops/linear/linear.hpp"

#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace linear;
using Index = std::int64_t;

MAMBASDK_SIMD Index at_least_one(Index n) {
  return n > 1 ? n : 1;
}

// Dot products of one weight row with kRows rows of x. One row of weights at a time: memory then sees a single stream,
// which its prefetcher follows across rows. The order of additions and their roundings do not depend on kRows.
template <class W, int kRows>
MAMBASDK_SIMD void dot_rows(const W* w, const float* x, Index x_stride, Index n, float* out) {
  constexpr int kChains = 4;
  vf sum[kRows][kChains] = {};
  Index i = 0;
  for (; i + kChains * kLanes <= n; i += kChains * kLanes) {
    for (int c = 0; c < kChains; ++c) {
      const vf weight = load(w + i + c * kLanes);
      for (int r = 0; r < kRows; ++r) sum[r][c] = fma(weight, load(x + r * x_stride + i + c * kLanes), sum[r][c]);
    }
  }
  for (; i < n; i += kLanes) {
    const int count = n - i < kLanes ? static_cast<int>(n - i) : kLanes;
    const vf weight = load_n(w + i, count);
    for (int r = 0; r < kRows; ++r) sum[r][0] = fma(weight, load_n(x + r * x_stride + i, count), sum[r][0]);
  }
  for (int r = 0; r < kRows; ++r) out[r] = reduce_add((sum[r][0] + sum[r][1]) + (sum[r][2] + sum[r][3]));
}

template <class W>
MAMBASDK_SIMD void dot_all_rows(const W* w, const StreamArgs& a, float* out) {
  Index r = 0;
  for (; r + 4 <= a.rows; r += 4) dot_rows<W, 4>(w, a.x + r * a.x_stride, a.x_stride, a.in_features, out + r);
  const float* x = a.x + r * a.x_stride;
  switch (a.rows - r) {
    case 3:
      return dot_rows<W, 3>(w, x, a.x_stride, a.in_features, out + r);
    case 2:
      return dot_rows<W, 2>(w, x, a.x_stride, a.in_features, out + r);
    case 1:
      return dot_rows<W, 1>(w, x, a.x_stride, a.in_features, out + r);
    default:
      return;
  }
}

MAMBASDK_SIMD void store_scalar(void* out, DType type, Index i, float value) {
  with_type(type, [&]<class T>(T) { static_cast<T*>(out)[i] = from_float<T>::cast(value); });
}

template <class W>
void stream(const StreamArgs& a, const Parallel& parallel) {
  const Index grain = at_least_one(16384 / at_least_one(a.in_features));
  parallel(a.out_features, grain, [&](Index begin, Index end) {
    for (Index o = begin; o < end; ++o) {
      float out[kMaxStreamedRows];
      if (a.weight.element_stride == 1) {
        dot_all_rows(row_of<W>(a.weight, o), a, out);
      } else {
        const W* w = row_of<W>(a.weight, o);
        for (Index r = 0; r < a.rows; ++r) {
          float sum = 0.0f;
          for (Index i = 0; i < a.in_features; ++i)
            sum += to_float(w[i * a.weight.element_stride]) * a.x[r * a.x_stride + i];
          out[r] = sum;
        }
      }
      float one;
      const float bias = a.bias.data != nullptr ? *read_row(a.bias, 0, &one, 1, o) : 0.0f;
      for (Index r = 0; r < a.rows; ++r) store_scalar(a.y, a.y_type, r * a.out_features + o, out[r] + bias);
    }
  });
}

}  // namespace

void linear_stream(const StreamArgs& a, const Parallel& parallel) {
  with_type(a.weight.type, [&]<class W>(W) { stream<W>(a, parallel); });
}

void linear_widen(const WidenArgs& a, const Parallel& parallel) {
  parallel(a.count, at_least_one(16384 / at_least_one(a.columns)), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      float* out = a.out + r * a.columns;
      const float* in = read_row(a.rows, r, out, a.columns);
      if (a.rounds) {
        for_lanes(a.columns, [&](Index i, int count) __attribute__((always_inline)) {
          store_n(out + i, widen_bf16(narrow_bf16(load_n(in + i, count))), count);
        });
      } else {
        write_out(in, out, {2, 32}, 0, a.columns);
      }
    }
  });
}

void linear_round(const RoundArgs& a, const Parallel& parallel) {
  constexpr Index kPiece = 1024;
  parallel(a.count, at_least_one(16384 / at_least_one(a.columns)), [&](Index begin, Index end) {
    alignas(64) float buffer[kPiece];
    for (Index r = begin; r < end; ++r) {
      auto* out = reinterpret_cast<bf16*>(a.out + r * a.stride);
      for (Index first = 0; first < a.columns; first += kPiece) {
        const Index n = a.columns - first < kPiece ? a.columns - first : kPiece;
        narrow(read_row(a.rows, r, buffer, n, first), out + first, n);
      }
      if (a.columns % kPairedElements != 0) out[a.columns] = bf16{};
    }
  });
}

void embedding_rows(const EmbeddingArgs& a, const Parallel& parallel) {
  parallel(a.count, at_least_one(16384 / at_least_one(a.columns)), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      float* out = a.out + r * a.columns;
      write_out(read_row(a.weight, a.indices[r], out, a.columns), out, {2, 32}, 0, a.columns);
    }
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
