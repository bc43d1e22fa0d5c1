// unfold2d as copies of whole kernel rows, and mean_rows as sums over pieces of the length.
#include "ops/tokens/tokens.hpp"

#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace tokens;
using Index = std::int64_t;

// n elements; float stands for any of 4 bytes, bf16 for any of 2.
MAMBASDK_SIMD void copy_run(float* to, const float* from, Index n) {
  for_lanes(
      n, [&](Index i, int count) __attribute__((always_inline)) { store_n(to + i, load_n(from + i, count), count); });
}
template <class T>
MAMBASDK_SIMD void copy_run(T* to, const T* from, Index n) {
  __builtin_memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
}

// kRun: the kernel's width where it is known when compiling, else 0. Windows that touch the padding go element by
// element, as do images whose pixels are not neighbours in memory.
template <class T, int kRun>
MAMBASDK_SIMD void unfold_window(const UnfoldArgs& a, Index b, Index i, Index j, T* to) {
  const Index width = kRun > 0 ? kRun : a.kernel[1];
  const Index h0 = i * a.stride[0] - a.padding[0], w0 = j * a.stride[1] - a.padding[1];
  const bool inside = h0 >= 0 && h0 + a.kernel[0] <= a.height && w0 >= 0 && w0 + width <= a.width;
  const bool plain = inside && a.x_stride[3] == 1;
  const T* image = static_cast<const T*>(a.x) + b * a.x_stride[0];
  for (Index c = 0; c < a.channels; ++c) {
    for (Index u = 0; u < a.kernel[0]; ++u, to += width) {
      const T* from = image + c * a.x_stride[1] + (h0 + u) * a.x_stride[2] + w0 * a.x_stride[3];
      if (plain) {
        copy_run(to, from, width);
        continue;
      }
      for (Index v = 0; v < width; ++v) {
        const bool there = h0 + u >= 0 && h0 + u < a.height && w0 + v >= 0 && w0 + v < a.width;
        to[v] = there ? from[v * a.x_stride[3]] : T{};
      }
    }
  }
}

template <class T, int kRun>
void unfold_rows(const UnfoldArgs& a, const Parallel& parallel) {
  const Index window = a.channels * a.kernel[0] * a.kernel[1];
  const Index row = a.out_width * window;
  const Index grain = 16384 / (row > 0 ? row : 1) > 1 ? 16384 / row : 1;
  parallel(a.batch * a.out_height, grain, [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      T* to = static_cast<T*>(a.y) + r * row;
      for (Index j = 0; j < a.out_width; ++j) {
        unfold_window<T, kRun>(a, r / a.out_height, r % a.out_height, j, to + j * window);
      }
    }
  });
}

template <class T>
void unfold_of(const UnfoldArgs& a, const Parallel& parallel) {
  switch (a.kernel[1]) {
    case 3:
      return unfold_rows<T, 3>(a, parallel);
    case 4:
      return unfold_rows<T, 4>(a, parallel);
    case 8:
      return unfold_rows<T, 8>(a, parallel);
    case 16:
      return unfold_rows<T, 16>(a, parallel);
    default:
      return unfold_rows<T, 0>(a, parallel);
  }
}

// Sums of rows [begin, end) of matrix `m`, columns [first, first + n) with n at most 4 vectors.
template <class T>
[[gnu::noinline]] void sum_rows(const MeanArgs& a, Index m, Index begin, Index end, Index first, int vectors,
                                float* out) {
  vf sum[4] = {};
  for (Index r = begin; r < end; ++r) {
    const T* in = row_of<T>(a.x, m * a.rows + r) + first;
    for (int v = 0; v < vectors; ++v) sum[v] = sum[v] + load(in + v * kLanes);
  }
  for (int v = 0; v < vectors; ++v) store(out + v * kLanes, sum[v]);
}

template <class T>
void mean_of(const MeanArgs& a, const Parallel& parallel) {
  const Index length = a.rows < kMeanRows ? a.rows + 1 : kMeanRows;
  const Index grain = 65536 / (length * a.columns) > 1 ? 65536 / (length * a.columns) : 1;
  parallel(a.count * a.parts, grain, [&](Index first, Index last) {
    for (Index i = first; i < last; ++i) {
      const Index m = i / a.parts, begin = i % a.parts * kMeanRows;
      const Index end = begin + kMeanRows < a.rows ? begin + kMeanRows : a.rows;
      float* out = a.sums + i * a.columns;
      Index d = 0;
      if (a.x.element_stride == 1) {
        for (; d + kLanes <= a.columns;) {
          const Index whole = (a.columns - d) / kLanes;
          const int vectors = static_cast<int>(whole < 4 ? whole : 4);
          sum_rows<T>(a, m, begin, end, d, vectors, out + d);
          d += vectors * kLanes;
        }
      }
      for (; d < a.columns; ++d) {
        float sum = 0.0f;
        for (Index r = begin; r < end; ++r) sum += to_float(row_of<T>(a.x, m * a.rows + r)[d * a.x.element_stride]);
        out[d] = sum;
      }
    }
  });
  const float length_f = static_cast<float>(a.rows > 0 ? a.rows : 1);
  for (Index m = 0; m < a.count; ++m) {
    float* sum = a.sums + m * a.parts * a.columns;
    for (Index part = 1; part < a.parts; ++part) {
      const float* more = sum + part * a.columns;
      for (Index d = 0; d < a.columns; ++d) sum[d] += more[d];
    }
    for (Index d = 0; d < a.columns; ++d) sum[d] = sum[d] / length_f;
    write_out(sum, a.y, a.x.type, m * a.columns, a.columns);
  }
}

}  // namespace

void unfold2d(const UnfoldArgs& a, const Parallel& parallel) {
  return a.element_bytes == 4 ? unfold_of<float>(a, parallel) : unfold_of<bf16>(a, parallel);
}

void mean_rows(const MeanArgs& a, const Parallel& parallel) {
  if (is_float(a.x.type)) return mean_of<float>(a, parallel);
  if (is_bf16(a.x.type)) return mean_of<bf16>(a, parallel);
  return mean_of<f16>(a, parallel);
}

}  // namespace mambasdk::MAMBASDK_ISA
