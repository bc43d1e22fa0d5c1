// Pooling in two steps: a row of the output first joins the rows of x that it sees, elementwise into a buffer in the
// first-level cache, then the columns of that row. A window of k x k x k then costs 2 k at stride 1, not k^3.
#include "ops/pooling/pooling_args.hpp"

#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace pooling;
using Index = std::int64_t;
constexpr Index kBuffer = 4096;  // floats

struct Sum {
  static constexpr bool kIsMax = false;
  MAMBASDK_SIMD vf start() { return zero(); }
  MAMBASDK_SIMD vf join(vf a, vf x) { return a + x; }
};
struct Max {
  static constexpr bool kIsMax = true;
  MAMBASDK_SIMD vf start() { return set1(-__builtin_inff()); }
  MAMBASDK_SIMD vf join(vf a, vf x) { return max_or_nan(a, x); }
};

// Positions in two dims, elements apart.
struct Taps {
  Index planes, plane_stride, rows, row_stride;
};

// acc[v] joined with in[…] + v vectors over all taps, plane by plane.
template <class Op, int V, class T>
MAMBASDK_SIMD void join_taps(const T* in, const Taps& taps, vf (&acc)[V]) {
  for (Index p = 0; p < taps.planes; ++p) {
    const T* row = in + p * taps.plane_stride;
    for (Index r = 0; r < taps.rows; ++r, row += taps.row_stride)
      for (int v = 0; v < V; ++v) acc[v] = Op::join(acc[v], load(row + v * kLanes));
  }
}

// out[i] = the join of in[i] over all taps, for n elements; of out[i] too where there are `more` than a first call's.
template <class Op, class T>
MAMBASDK_SIMD void join_run(const T* in, const Taps& taps, Index n, bool more, float* out) {
  constexpr int kVectors = 4;
  const float* before = out;
  Index i = 0;
  for (; i + kVectors * kLanes <= n; i += kVectors * kLanes) {
    vf acc[kVectors];
    for (int v = 0; v < kVectors; ++v) acc[v] = more ? load(before + i + v * kLanes) : Op::start();
    join_taps<Op>(in + i, taps, acc);
    for (int v = 0; v < kVectors; ++v) store(out + i + v * kLanes, acc[v]);
  }
  for (; i + kLanes <= n; i += kLanes) {
    vf acc[1] = {more ? load(before + i) : Op::start()};
    join_taps<Op>(in + i, taps, acc);
    store(out + i, acc[0]);
  }
  if (i == n) return;
  const int left = static_cast<int>(n - i);
  vf acc = more ? load_n(before + i, left) : Op::start();
  for (Index p = 0; p < taps.planes; ++p)
    for (Index r = 0; r < taps.rows; ++r)
      acc = Op::join(acc, load_n(in + i + p * taps.plane_stride + r * taps.row_stride, left));
  store_n(out + i, acc, left);
}

// `count` runs of n elements, `stride` apart in x and one behind the other in `out`. Of many rows a few at a time, so
// that x is read along its rows.
template <class Op, class T>
[[gnu::noinline]] void join_rows(const T* in, Index stride, Index count, const Taps& taps, Index n, float* out) {
  constexpr Index kRows = 8;
  const auto join = [&](const T* from, const Taps& some, bool more) __attribute__((always_inline)) {
    for (Index i = 0; i < count; ++i) join_run<Op>(from + i * stride, some, n, more, out + i * n);
  };
  if (taps.planes * taps.rows <= kRows) return join(in, taps, false);
  for (Index p = 0; p < taps.planes; ++p) {
    for (Index r = 0; r < taps.rows; r += kRows) {
      const Taps some{1, 0, taps.rows - r < kRows ? taps.rows - r : kRows, taps.row_stride};
      join(in + p * taps.plane_stride + r * taps.row_stride, some, p + r > 0);
    }
  }
}

// The same over columns in the buffer, which may be read past its end, each divided: n elements of y, behind which
// there is room for those up to `end`.
template <class Op, class T>
[[gnu::noinline]] void join_columns(const float* in, const Taps& taps, Index n, vf divisor, T* y, const T* end) {
  const auto finish = [&](vf x) __attribute__((always_inline)) { return Op::kIsMax ? x : x / divisor; };
  Index i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    vf acc[2] = {Op::start(), Op::start()};
    join_taps<Op>(in + i, taps, acc);
    store_pair(y + i, finish(acc[0]), finish(acc[1]));
  }
  for (; i < n; i += kLanes) {
    vf acc[1] = {Op::start()};
    join_taps<Op>(in + i, taps, acc);
    if (end - (y + i) >= kLanes) {
      store(y + i, finish(acc[0]));  // what is past n is written over by the next column
    } else {
      store_n(y + i, finish(acc[0]), static_cast<int>(n - i));
    }
  }
}

// One row of the output in channels [channel, channel + channels).
template <class Op, class T>
struct RowTask {
  const Args& a;
  const T* x;          // the first rows' first column
  Taps rows;           // over depth and height
  double row_divisor;  // of these
  Index channels;
  T* y;           // the first column
  bool is_whole;  // all channels: columns are side by side in y

  // Columns [begin, end) of x, joined over the rows.
  void read(Index begin, Index end, float* buffer) const {
    const Index stride = a.x.stride[2];
    const T* from = x + begin * stride;
    if (stride == channels) return join_rows<Op>(from, 0, 1, rows, (end - begin) * channels, buffer);
    join_rows<Op>(from, stride, end - begin, rows, channels, buffer);
  }

  vf divisor(const Window& w) const {
    if (a.divisor != 0.0) return set1(static_cast<float>(a.divisor));
    const double n = row_divisor * w.divisor;
    return set1(n > 0.0 ? static_cast<float>(n) : 1.0f);
  }

  Index end_of(const Window& w) const { return w.first + (w.count > 0 ? (w.count - 1) * a.axis[2].step + 1 : 0); }

  // Outputs from j on whose columns are in the buffer, which begins with column `begin`; returns the first that is not.
  void write(Index first, Index last, Index begin, const float* buffer) const {
    const Axis& axis = a.axis[2];
    const T* end = is_whole ? y + axis.size * channels : nullptr;
    for (Index j = first; j < last;) {
      const Window& w = axis.windows[j];
      Index run = 1;  // outputs whose windows move by one column each
      if (is_whole) {
        while (j + run < last && axis.windows[j + run].first == w.first + run &&
               axis.windows[j + run].count == w.count && axis.windows[j + run].divisor == w.divisor)
          ++run;
      }
      T* to = y + j * a.x.channels;
      const Taps columns{1, 0, w.count, axis.step * channels};
      const Index n = run * channels;
      join_columns<Op>(buffer + (w.first - begin) * channels, columns, n, divisor(w), to, is_whole ? end : to + n);
      j += run;
    }
  }

  // A window wider than the buffer: piece by piece, each joined to one row of channels behind it.
  void write_wide(Index j, float* buffer, Index span) const {
    const Window& w = a.axis[2].windows[j];
    const Index step = a.axis[2].step;
    float* joined = buffer + span * channels;
    for (Index k = 0; k < w.count;) {
      const Index begin = w.first + k * step;
      const Index taps = span / step > 1 ? span / step : 1, n = w.count - k < taps ? w.count - k : taps;
      read(begin, n == 1 ? begin + 1 : begin + (n - 1) * step + 1, buffer);
      const float* columns = buffer;
      join_run<Op>(columns, Taps{1, 0, n, step * channels}, channels, k > 0, joined);
      k += n;
    }
    T* to = y + j * a.x.channels;
    join_columns<Op>(joined, Taps{1, 0, w.count > 0 ? 1 : 0, 0}, channels, divisor(w), to,
                     static_cast<const T*>(to + channels));
  }

  void run() const {
    alignas(64) float buffer[kBuffer + 4 * kLanes];
    const Axis& axis = a.axis[2];
    const Index columns = kBuffer / channels, span = columns - 1;  // one is for write_wide
    for (Index j = 0; j < axis.size;) {
      // As many outputs as see no more than the buffer holds. Windows only move to the right.
      const Index begin = axis.windows[j].first;
      Index last = j, end = begin;
      while (last < axis.size && axis.windows[last].first >= begin && end_of(axis.windows[last]) - begin <= span) {
        const Index e = end_of(axis.windows[last++]);
        end = e > end ? e : end;
      }
      if (last == j) {
        write_wide(j++, buffer, span);
        continue;
      }
      read(begin, end, buffer);
      write(j, last, begin, buffer);
      j = last;
    }
  }
};

template <class Op, class T>
void pool_of(const Args& a, const Parallel& parallel) {
  const Index blocks = (a.x.channels + a.block_channels - 1) / a.block_channels;
  const Index height = a.axis[1].size, rows = a.x.batch * a.axis[0].size * height;
  const Index work = a.axis[2].size * a.block_channels * 4;
  parallel(rows * blocks, work < 16384 ? 16384 / work : 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index row = i / blocks, channel = i % blocks * a.block_channels;
      const Window& h = a.axis[1].windows[row % height];
      const Window& d = a.axis[0].windows[row / height % a.axis[0].size];
      const Index b = row / height / a.axis[0].size, left = a.x.channels - channel;
      const Index from = b * a.x.batch_stride + d.first * a.x.stride[0] + h.first * a.x.stride[1] + channel;
      const RowTask<Op, T> task{
          .a = a,
          .x = static_cast<const T*>(a.x.data) + from,
          .rows = {d.count, a.axis[0].step * a.x.stride[0], h.count, a.axis[1].step * a.x.stride[1]},
          .row_divisor = d.divisor * h.divisor,
          .channels = left < a.block_channels ? left : a.block_channels,
          .y = static_cast<T*>(a.y) + row * a.axis[2].size * a.x.channels + channel,
          .is_whole = blocks == 1};
      task.run();
    }
  });
}

}  // namespace

void pool(const Args& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.x.type == dtype::bf16, pool(a, parallel));
  with_own_type(a.x.type, [&]<class T>(T) {
    if (a.is_max) {
      pool_of<Max, T>(a, parallel);
    } else {
      pool_of<Sum, T>(a, parallel);
    }
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
