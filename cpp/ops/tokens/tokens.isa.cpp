// unfold2d as copies of kernel rows, and mean_rows as sums over pieces of the length.
#include "ops/tokens/tokens.hpp"

#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace tokens;
using Index = std::int64_t;

// One row of one channel's window, for every window of an output row: `line` is the image's row, null in the padding;
// the windows [inside, outside) lie within it. kRun: the kernel's width where it is known when compiling, else 0.
template <class T, int kRun>
MAMBASDK_SIMD void unfold_line(const UnfoldArgs& a, const T* line, Index inside, Index outside, T* to) {
  const Index run = kRun > 0 ? kRun : a.kernel[1];
  const Index window = a.channels * a.kernel[0] * run, step = a.stride[1], pixel = a.x_stride[3];
  const auto slow = [&](Index begin, Index end) {
    for (Index j = begin; j < end; ++j) {
      for (Index v = 0; v < run; ++v) {
        const Index w = j * step + v - a.padding[1];
        to[j * window + v] = line != nullptr && w >= 0 && w < a.width ? line[w * pixel] : T{};
      }
    }
  };
  if (line == nullptr || pixel != 1) return slow(0, a.out_width);
  slow(0, inside);
  const T* from = line - a.padding[1];
  for (Index j = inside; j < outside; ++j) {
    __builtin_memcpy(to + j * window, from + j * step, static_cast<std::size_t>(run) * sizeof(T));
  }
  slow(outside, a.out_width);
}

template <class T, int kRun>
void unfold_rows(const UnfoldArgs& a, const Parallel& parallel) {
  const Index row = a.out_width * a.channels * a.kernel[0] * a.kernel[1];
  const Index grain = 16384 / (row > 0 ? row : 1) > 1 ? 16384 / row : 1;
  // Windows j with j step - padding >= 0 and j step - padding + kernel <= width.
  const auto limit = [&](Index n) { return n < 0 ? 0 : n > a.out_width ? a.out_width : n; };
  const Index inside = limit((a.padding[1] + a.stride[1] - 1) / a.stride[1]);
  const Index reach = a.width + a.padding[1] - a.kernel[1];
  const Index end = reach < 0 ? 0 : limit(reach / a.stride[1] + 1), outside = end < inside ? inside : end;
  parallel(a.batch * a.out_height, grain, [&](Index begin, Index stop) {
    for (Index r = begin; r < stop; ++r) {
      const T* image = static_cast<const T*>(a.x) + r / a.out_height * a.x_stride[0];
      T* to = static_cast<T*>(a.y) + r * row;
      for (Index c = 0; c < a.channels; ++c) {
        for (Index u = 0; u < a.kernel[0]; ++u, to += a.kernel[1]) {
          const Index h = r % a.out_height * a.stride[0] + u - a.padding[0];
          const bool there = h >= 0 && h < a.height;
          unfold_line<T, kRun>(a, there ? image + c * a.x_stride[1] + h * a.x_stride[2] : nullptr, inside, outside, to);
        }
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
