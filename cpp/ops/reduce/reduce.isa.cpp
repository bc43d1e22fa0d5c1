// Reductions: results of side-by-side columns are held in the first-level cache while rows pass over them, those of
// columns that lie in runs in the lanes of a few vectors.
#include "ops/reduce/reduce.hpp"

#include "ops/reduce/reduce_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace reduce;
using Index = std::int64_t;

// `rows` rows, `stride` elements apart, joined over kVectors vectors of columns or, kVectors being 0, the last `count`
// columns.
template <class R, int kVectors, class T>
MAMBASDK_SIMD void join_columns(const T* x, Index stride, Index rows, int count, float* out) {
  constexpr int kUsed = kVectors > 0 ? kVectors : 1;
  vf results[kUsed];
  for (vf& result : results) result = set1(R::kStart);
  for (Index r = 0; r < rows; ++r, x += stride) {
    if constexpr (kVectors == 0) {
      results[0] = R::join(results[0], load_n(x, count));
    } else {
      for (int v = 0; v < kVectors; ++v) results[v] = R::join(results[v], load(x + v * kLanes));
    }
  }
  for (int v = 0; v < kUsed; ++v) {
    if constexpr (kVectors == 0) {
      store_n(out, results[0], count);
    } else {
      store(out + v * kLanes, results[v]);
    }
  }
}

template <class R, class T>
[[gnu::noinline]] void reduce_columns(const T* x, Index stride, Index rows, Index n, float* out) {
  constexpr int kMany = 8;
  Index i = 0;
  for (; i + kMany * kLanes <= n; i += kMany * kLanes) join_columns<R, kMany>(x + i, stride, rows, kLanes, out + i);
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) join_columns<R, 4>(x + i, stride, rows, kLanes, out + i);
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) join_columns<R, 2>(x + i, stride, rows, kLanes, out + i);
  for (; i + kLanes <= n; i += kLanes) join_columns<R, 1>(x + i, stride, rows, kLanes, out + i);
  if (i < n) join_columns<R, 0>(x + i, stride, rows, static_cast<int>(n - i), out + i);
}

// Fewer columns than a vector has lanes, rows without gaps: kLanes rows are as many vectors as there are columns, of
// which each lane always has the same one.
template <class R, class T>
[[gnu::noinline]] void reduce_narrow(const T* x, Index rows, Index columns, float* out) {
  vf results[kLanes];
  for (vf& result : results) result = set1(R::kStart);
  Index r = 0;
  for (; r + kLanes <= rows; r += kLanes, x += kLanes * columns) {
    for (Index v = 0; v < columns; ++v) results[v] = R::join(results[v], load(x + v * kLanes));
  }
  for (Index c = 0; c < columns; ++c) out[c] = R::kStart;
  for (Index v = 0; v < columns; ++v) {
    for (Index i = 0; i < kLanes; ++i) {
      const Index c = (v * kLanes + i) % columns;
      out[c] = R::join(out[c], static_cast<float>(results[v][i]));
    }
  }
  for (; r < rows; ++r, x += columns) {
    for (Index c = 0; c < columns; ++c) out[c] = R::join(out[c], to_float(x[c]));
  }
}

// Columns of any stride, by way of float32 rows.
template <class R>
[[gnu::noinline]] void reduce_strided(const Matrices& a, const Block& b, float* out) {
  alignas(64) float buffer[kColumns];
  for (Index i = 0; i < b.n; ++i) out[i] = R::kStart;
  for (Index row = b.begin; row < b.end; ++row) {
    const float* x = read_columns(a, b.matrix, row, b.first, b.n, buffer);
    for_lanes(b.n, [&](Index i, int count) __attribute__((always_inline)) {
      store_n(out + i, R::join(load_n(static_cast<const float*>(out) + i, count), load_n(x + i, count)), count);
    });
  }
}

// n elements `stride` apart.
template <class R, class T>
MAMBASDK_SIMD float reduce_line(const T* x, Index stride, Index n) {
  if (stride == 1) return reduce_run<R>(x, n);
  float result = R::kStart;
  for (Index i = 0; i < n; ++i) result = R::join(result, to_float(x[i * stride]));
  return result;
}

template <class R, class T>
void reduce_block(const Matrices& a, const Block& b, float* out) {
  const T* x = static_cast<const T*>(a.matrix.data) + a.offset(b.matrix, b.begin, b.first);
  const Index rows = b.end - b.begin;
  if (!is_by_column(a)) {
    if (a.column_stride == 1 && a.columns < kLanes && a.matrix.element_stride == a.columns)
      return reduce_narrow<R>(x, rows, a.columns, out);
    if (a.column_stride == 1) return reduce_columns<R>(x, a.matrix.element_stride, rows, b.n, out);
    return reduce_strided<R>(a, b, out);
  }
  for (Index c = 0; c < b.n; ++c) out[c] = reduce_line<R>(x + c * a.column_stride, a.matrix.element_stride, rows);
}

void finish(const Args& a, Index matrix, Index first, Index n, float* values) {
  if (a.divisor != 1.0f) {
    for (Index i = 0; i < n; ++i) values[i] /= a.divisor;
  }
  write_out(values, a.y, a.matrices.matrix.type, matrix * a.matrices.columns + first, n);
}

// Matrices of one column that fits one part: their results lie side by side.
template <class R>
void reduce_lines(const Args& a, const Parallel& parallel) {
  const Matrices& m = a.matrices;
  parallel(m.count, grain_of(m, 1), [&](Index begin, Index end) {
    alignas(64) float buffer[kColumns];
    for (Index at = begin; at < end; at += kColumns) {
      const Index n = end - at < kColumns ? end - at : kColumns;
      float* out = output_at(a.y, m.matrix.type, at, buffer);
      with_own_type(m.matrix.type, [&]<class T>(T) __attribute__((always_inline)) {
        for (Index i = 0; i < n; ++i) {
          const T* x = static_cast<const T*>(m.matrix.data) + m.offset(at + i, 0, 0);
          out[i] = reduce_line<R>(x, m.matrix.element_stride, m.rows);
        }
      });
      finish(a, at, 0, n, out);
    }
  });
}

template <class R>
void reduce_of(const Args& a, const Parallel& parallel) {
  const Matrices& m = a.matrices;
  const Index parts = part_count(m), blocks = block_count(m);
  if (m.columns == 1 && parts == 1) return reduce_lines<R>(a, parallel);
  parallel(m.count * parts * blocks, grain_of(m, parts), [&](Index begin, Index end) {
    alignas(64) float buffer[kColumns];
    for (Index i = begin; i < end; ++i) {
      const Block b = block_of(m, i, parts);
      float* out = parts > 1 ? a.partial + (b.matrix * parts + b.part) * m.columns + b.first
                             : output_at(a.y, m.matrix.type, b.matrix * m.columns + b.first, buffer);
      with_own_type(m.matrix.type, [&]<class T>(T) __attribute__((always_inline)) { reduce_block<R, T>(m, b, out); });
      if (parts == 1) finish(a, b.matrix, b.first, b.n, out);
    }
  });
  if (parts == 1) return;
  parallel(m.count * blocks, 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Block b = block_of(m, i, 1);
      float* out = a.partial + b.matrix * parts * m.columns + b.first;
      for (Index part = 1; part < parts; ++part) {
        const float* more = out + part * m.columns;
        for_lanes(b.n, [&](Index c, int count) __attribute__((always_inline)) {
          store_n(out + c, R::join(load_n(static_cast<const float*>(out) + c, count), load_n(more + c, count)), count);
        });
      }
      finish(a, b.matrix, b.first, b.n, out);
    }
  });
}

}  // namespace

void reduce_rows(const Args& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.matrices.matrix.type == dtype::bf16, reduce_rows(a, parallel));
  switch (a.reduction) {
    case Reduction::sum:
      return reduce_of<Sum>(a, parallel);
    case Reduction::product:
      return reduce_of<Product>(a, parallel);
    case Reduction::maximum:
      return reduce_of<Maximum>(a, parallel);
    default:
      return reduce_of<Minimum>(a, parallel);
  }
}

}  // namespace mambasdk::MAMBASDK_ISA
