// Interpolation in two steps: a row of the output is first joined of the rows of x around it, in a buffer in the
// first-level cache, then of that row's columns. Nearest positions are copies.
#include "ops/resize/narrow_simd.hpp"
#include "ops/resize/resize_args.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace resize;
using Index = std::int64_t;
constexpr Index kBuffer = 4096;     // floats
constexpr int kMaxRows = kMaxTaps;  // of depth and height together: linear 2 x 2, cubic 4 without depth

struct WeightedRows {
  Index offset[kMaxRows];
  float weight[kMaxRows];
  int count = 0;
};

// out[i] = sum over rows of weight * in[offset + i], for n elements.
template <int kRows, class T>
MAMBASDK_SIMD void join_rows(const T* in, const WeightedRows& rows, Index n, float* out) {
  vf weight[kRows];
  const T* row[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    weight[r] = set1(rows.weight[r]);
    row[r] = in + rows.offset[r];
  }
  for_lanes(n, [&](Index i, int lanes) __attribute__((always_inline)) {
    vf sum = weight[0] * load_n(row[0] + i, lanes);
#pragma GCC unroll 4
    for (int r = 1; r < kRows; ++r) sum = fma(weight[r], load_n(row[r] + i, lanes), sum);
    store_n(out + i, sum, lanes);
  });
}
template <class T>
[[gnu::noinline]] void join_rows(const T* in, const WeightedRows& rows, Index n, float* out) {
  switch (rows.count) {
    case 1:
      return join_rows<1>(in, rows, n, out);
    case 2:
      return join_rows<2>(in, rows, n, out);
    case 3:
      return join_rows<3>(in, rows, n, out);
    default:
      return join_rows<4>(in, rows, n, out);
  }
}

// One column of the output, behind which there is room for as many elements as go on to `end`: what is written there is
// written over by the next column. The buffer, too, may be read past its end.
template <int kTaps, class T>
MAMBASDK_SIMD void join_column(const float* row, Index channels, const Taps& taps, T* to, const T* end) {
  vf weight[kTaps];
  const float* in[kTaps];
#pragma GCC unroll 4
  for (int k = 0; k < kTaps; ++k) {
    weight[k] = set1(static_cast<float>(taps.weight[k]));
    in[k] = row + taps.index[k] * channels;
  }
  const auto sum = [&](Index c) __attribute__((always_inline)) {
    vf out = weight[0] * load(in[0] + c);
#pragma GCC unroll 4
    for (int k = 1; k < kTaps; ++k) out = fma(weight[k], load(in[k] + c), out);
    return out;
  };
  Index c = 0;
  for (; c + 2 * kLanes <= channels; c += 2 * kLanes) store_pair(to + c, sum(c), sum(c + kLanes));
  for (; c < channels; c += kLanes) {
    if (end - (to + c) >= kLanes) {
      store(to + c, sum(c));
    } else {
      store_n(to + c, sum(c), static_cast<int>(channels - c));
    }
  }
}
// Columns [first, last); the buffer begins with column `begin` of x in all channels.
template <class T>
[[gnu::noinline]] void join_columns(const Args& a, Index first, Index last, Index begin, const float* buffer, T* y) {
  const Index channels = a.x.channels;
  const float* row = buffer - begin * channels;
  const T* end = y + a.axis[2].size * channels;
  for (Index j = first; j < last; ++j) {
    const Taps& taps = a.axis[2].taps[j];
    T* to = y + j * channels;
    switch (taps.count) {
      case 1:
        join_column<1>(row, channels, taps, to, end);
        break;
      case 2:
        join_column<2>(row, channels, taps, to, end);
        break;
      case 3:
        join_column<3>(row, channels, taps, to, end);
        break;
      default:
        join_column<4>(row, channels, taps, to, end);
    }
  }
}

// A column without the buffer, of up to kMaxTaps places of x: faster where the outputs take half of x's columns or
// fewer, slower where they share them.
template <int kPlaces, class T>
MAMBASDK_SIMD void join_places(const T* const* in, const float* weights, Index n, T* to, const T* end) {
  vf weight[kPlaces];
  const T* from[kPlaces];
#pragma GCC unroll 4
  for (int k = 0; k < kPlaces; ++k) {
    weight[k] = set1(weights[k]);
    from[k] = in[k];
  }
  for_lanes(n, [&](Index c, int lanes) __attribute__((always_inline)) {
    vf sum = weight[0] * load_n(from[0] + c, lanes);
#pragma GCC unroll 4
    for (int k = 1; k < kPlaces; ++k) sum = fma(weight[k], load_n(from[k] + c, lanes), sum);
    if (lanes < kLanes && end - (to + c) >= kLanes) return store(to + c, sum);
    store_n(to + c, sum, lanes);
  });
}
template <class T>
[[gnu::noinline]] void direct_row(const Args& a, const T* in, const WeightedRows& rows, T* y) {
  const Index channels = a.x.channels;
  const T* end = y + a.axis[2].size * channels;
  for (Index j = 0; j < a.axis[2].size; ++j) {
    const Taps& taps = a.axis[2].taps[j];
    const T* from[kMaxTaps];
    float weight[kMaxTaps];
    int count = 0;
    for (int r = 0; r < rows.count; ++r) {
      for (int k = 0; k < taps.count; ++k, ++count) {
        from[count] = in + rows.offset[r] + taps.index[k] * a.x.stride[2];
        weight[count] = rows.weight[r] * static_cast<float>(taps.weight[k]);
      }
    }
    T* to = y + j * channels;
    switch (count) {
      case 1:
        join_places<1>(from, weight, channels, to, end);
        break;
      case 2:
        join_places<2>(from, weight, channels, to, end);
        break;
      case 3:
        join_places<3>(from, weight, channels, to, end);
        break;
      default:
        join_places<4>(from, weight, channels, to, end);
    }
  }
}

// A column of many taps that do not fit the buffer.
template <class T>
[[gnu::noinline]] void join_wide_column(const Args& a, const T* in, const WeightedRows& rows, const Taps& taps, T* to) {
  for_lanes(a.x.channels, [&](Index c, int lanes) __attribute__((always_inline)) {
    vf sum = zero();
    for (int k = 0; k < taps.count; ++k) {
      vf column = zero();
      const T* from = in + taps.index[k] * a.x.stride[2] + c;
      for (int r = 0; r < rows.count; ++r)
        column = fma(set1(rows.weight[r]), load_n(from + rows.offset[r], lanes), column);
      sum = fma(set1(static_cast<float>(taps.weight[k])), column, sum);
    }
    store_n(to + c, sum, lanes);
  });
}

// Columns [begin, end) of x, joined over the rows, to the buffer.
template <class T>
MAMBASDK_SIMD void read_columns(const Args& a, const T* in, const WeightedRows& rows, Index begin, Index end,
                                float* buffer) {
  const Index channels = a.x.channels, stride = a.x.stride[2];
  if (stride == channels) return join_rows(in + begin * stride, rows, (end - begin) * channels, buffer);
  for (Index w = begin; w < end; ++w, buffer += channels) join_rows(in + w * stride, rows, channels, buffer);
}

// A row of vectors across columns (narrow_simd.hpp).
template <class T>
void narrow_row(const Args& a, const T* in, const WeightedRows& rows, T* y) {
  alignas(64) float buffer[kBuffer + 2 * kLanes];
  const Narrow& n = a.narrow;
  const Index channels = a.x.channels, elements = a.axis[2].size * channels, width = a.x.size[2];
  const Index vectors = (elements + kLanes - 1) / kLanes;
  for (Index v = 0; v < vectors;) {
    const Index begin = n.base[v] / channels;
    Index last = v + 1;
    while (last < vectors && n.base[last] + 2 * kLanes + channels - begin * channels <= kBuffer) ++last;
    const Index end = (n.base[last - 1] + 2 * kLanes) / channels + 1;
    read_columns(a, in, rows, begin, end < width ? end : width, buffer);
    narrow_vectors(n, v, last, buffer - begin * channels, elements, y);
    v = last;
  }
}

template <class T>
void weighted_row(const Args& a, const T* in, const WeightedRows& rows, T* y) {
  alignas(64) float buffer[kBuffer + kLanes];
  const Axis& axis = a.axis[2];
  const Index span = kBuffer / a.x.channels;
  for (Index j = 0; j < axis.size;) {
    // As many outputs as the buffer has columns for. Taps only move to the right.
    const Index begin = axis.taps[j].index[0];
    Index last = j, end = begin;
    for (; last < axis.size; ++last) {
      const Taps& taps = axis.taps[last];
      if (taps.index[taps.count - 1] + 1 - begin > span) break;
      end = taps.index[taps.count - 1] + 1;
    }
    if (last == j) {
      join_wide_column(a, in, rows, axis.taps[j], y + j * a.x.channels);
      ++j;
      continue;
    }
    read_columns(a, in, rows, begin, end, buffer);
    join_columns(a, j, last, begin, buffer, y);
    j = last;
  }
}

// f(the place in x of the row's batch, what it takes of depth, and of height, the row of y) for every row of y.
template <class T, class F>
void for_rows(const Args& a, const Parallel& parallel, F&& f) {
  const Index height = a.axis[1].size, depth = a.axis[0].size, elements = a.axis[2].size * a.x.channels;
  parallel(a.x.batch * depth * height, elements < 8192 ? 8192 / elements : 1, [&](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) {
      const T* in = static_cast<const T*>(a.x.data) + row / height / depth * a.x.batch_stride;
      f(in, a.axis[0].taps[row / height % depth], a.axis[1].taps[row % height], static_cast<T*>(a.y) + row * elements);
    }
  });
}

template <class T>
void weighted(const Args& a, const Parallel& parallel) {
  const bool narrow = fill_narrow(a), is_sparse = a.x.channels >= kLanes && a.x.size[2] >= 2 * a.axis[2].size;
  for_rows<T>(a, parallel, [&](const T* in, const Taps& d, const Taps& h, T* y) {
    WeightedRows rows;
    for (int i = 0; i < d.count; ++i) {
      for (int j = 0; j < h.count; ++j, ++rows.count) {
        rows.offset[rows.count] = d.index[i] * a.x.stride[0] + h.index[j] * a.x.stride[1];
        rows.weight[rows.count] = static_cast<float>(d.weight[i] * h.weight[j]);
      }
    }
    if (narrow) {
      narrow_row(a, in, rows, y);
    } else if (is_sparse && rows.count * a.most_taps <= kMaxTaps) {
      direct_row(a, in, rows, y);
    } else {
      weighted_row(a, in, rows, y);
    }
  });
}

// Copies n elements of 4 or 2 bytes; past them too, as far as `room` goes.
template <class T>
MAMBASDK_SIMD void copy_column(const T* from, T* to, Index n, Index room) {
  constexpr Index kStep = 64 / static_cast<Index>(sizeof(T));
  Index i = 0;
  for (; i + kStep <= n; i += kStep) __builtin_memcpy(to + i, from + i, 64);
  if (i == n) return;
  if (room - i >= kStep) {
    __builtin_memcpy(to + i, from + i, 64);
    return;
  }
  for (; i < n; ++i) to[i] = from[i];
}

template <class T>
void nearest(const Args& a, const Parallel& parallel) {
  const Index channels = a.x.channels, columns = a.axis[2].size;
  const Taps* taps = a.axis[2].taps;
  for_rows<T>(a, parallel, [&](const T* in, const Taps& d, const Taps& h, T* y) {
    const T* row = in + d.index[0] * a.x.stride[0] + h.index[0] * a.x.stride[1];
    // What follows a column in memory may be copied along where both x and y have it: y's is written over by the next.
    const Index last = a.x.stride[2] == channels ? a.x.size[2] * channels : 0;
    for (Index j = 0; j < columns; ++j) {
      const Index at = taps[j].index[0] * a.x.stride[2], left = (columns - j) * channels;
      const Index room = last - at < left ? last - at : left;
      copy_column(row + at, y + j * channels, channels, room);
    }
  });
}

}  // namespace

void resize_weighted(const Args& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.x.type == dtype::bf16, resize_weighted(a, parallel));
  with_own_type(a.x.type, [&]<class T>(T) { weighted<T>(a, parallel); });
}

void resize_nearest(const Args& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(false, resize_nearest(a, parallel));
  if (a.x.type.bits == 32) return nearest<float>(a, parallel);
  return nearest<bf16>(a, parallel);
}

}  // namespace mambasdk::MAMBASDK_ISA
