// What the forward and the backward kernel share: operands of the matrix products, tiles, decays. For *.isa.cpp only.
//
// Products run in float32 or, where the instruction set has it, on pairs of bfloat16 with float32 sums. Both see their
// operands as matrices of 4-byte cells: a cell is one float, or two bfloat16 that are neighbours along the summed dim.
//   rows operand    (rows, k cells): k along memory; the left factor, broadcast cell by cell
//   columns operand (k cells, columns): columns along memory; the right factor, loaded as vectors
// A columns operand of M^T is the transposed rows operand of M, cell by cell. All dims are padded with zeros to
// whole vectors of cells.
#pragma once

#include "ops/gemm/tile.hpp"
#include "ops/ssd/ssd.hpp"

namespace mambasdk::MAMBASDK_ISA {

inline constexpr std::int64_t kChunk = kSsdChunk;
inline constexpr std::int64_t kDecayBlock = 16;  // steps per block of factored decays, whole vectors

MAMBASDK_SIMD std::int64_t round_up(std::int64_t n, std::int64_t to) {
  return (n + to - 1) / to * to;
}
MAMBASDK_SIMD std::int64_t min64(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}
MAMBASDK_SIMD std::int64_t max64(std::int64_t a, std::int64_t b) {
  return a > b ? a : b;
}
struct FloatCells {
  static constexpr int kPerCell = 1;
  MAMBASDK_SIMD void multiply_add(vf& acc, float a, vf b) { acc += set1(a) * b; }
  // Elements [column, column+kLanes) of one row of a rows operand.
  MAMBASDK_SIMD void put_row(float* row, std::int64_t column, vf x) { store(row + column, x); }
  // Rows k and k+1 (k even) of a columns operand with row length `ld`.
  MAMBASDK_SIMD void put_columns(float* cells, std::int64_t ld, std::int64_t k, vf even, vf odd) {
    store(cells + k * ld, even);
    store(cells + (k + 1) * ld, odd);
  }
};

#if defined(__AVX512BF16__)
struct Bf16Cells {
  static constexpr int kPerCell = 2;
  MAMBASDK_SIMD void multiply_add(vf& acc, float a, vf b) {
    acc = (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)set1(a), (__m512bh)b);
  }
  MAMBASDK_SIMD void put_row(float* row, std::int64_t column, vf x) {
    *reinterpret_cast<vh_unaligned*>(reinterpret_cast<bf16*>(row) + column) =
        (vh_unaligned)_mm512_cvtneps_pbh((__m512)x);
  }
  MAMBASDK_SIMD void put_columns(float* cells, std::int64_t ld, std::int64_t k, vf even, vf odd) {
    typedef std::uint16_t v32h __attribute__((vector_size(64)));
    const v32h halves = (v32h)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);
    const v32h order = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    store(cells + k / 2 * ld, (vf)__builtin_shuffle(halves, order));
  }
};
#endif

template <class Cells>
MAMBASDK_SIMD std::int64_t cells(std::int64_t n) {
  return n / Cells::kPerCell;
}

// Padding of a dim: whole vectors of cells, and whole tiles of rows.
template <class Cells>
MAMBASDK_SIMD std::int64_t padded(std::int64_t n) {
  static_assert(kLanes % kTileRows == 0);
  return round_up(n, kLanes * Cells::kPerCell);
}

// ---- products ----

template <class Cells, int NV>
MAMBASDK_SIMD void multiply(vf (&acc)[kTileRows][NV], const float* a, std::int64_t lda, const float* b,
                            std::int64_t ldb, std::int64_t k) {
  for (std::int64_t i = 0; i < k; ++i) {
    vf row[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) row[v] = load(b + i * ldb + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) Cells::multiply_add(acc[r][v], a[r * lda + i], row[v]);
    }
  }
}

// Calls f(column, width as a compile-time count of vectors) over stripes of `columns`, a multiple of kLanes.
template <int NV>
struct Width {
  static constexpr int value = NV;
};
template <class F>
MAMBASDK_SIMD void for_stripes(std::int64_t columns, F&& f) {
  std::int64_t j = 0;
  for (; j + kTileColumns <= columns; j += kTileColumns) f(j, Width<kTileVectors>{});
  for (; j < columns; j += kLanes) f(j, Width<1>{});
}

// c (rows,columns) = a b, or += when `add`.
template <class Cells>
MAMBASDK_SIMD void product(float* c, std::int64_t ldc, const float* a, std::int64_t lda, const float* b,
                           std::int64_t ldb, std::int64_t rows, std::int64_t columns, std::int64_t k, bool add) {
  for_stripes(columns, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
    constexpr int NV = decltype(width)::value;
    for (std::int64_t r = 0; r < rows; r += kTileRows) {
      vf acc[kTileRows][NV];
      clear_tile(acc);
      if (add) load_tile(acc, c + r * ldc + j, ldc);
      multiply<Cells>(acc, a + r * lda, lda, b + j, ldb, k);
      store_tile(acc, c + r * ldc + j, ldc);
    }
  });
}

// ---- layout ----

// dst (columns,rows) = src (rows,columns) of 4-byte cells; both dims multiples of kLanes.
MAMBASDK_SIMD void transpose(float* dst, std::int64_t ldd, const float* src, std::int64_t lds, std::int64_t rows,
                             std::int64_t columns) {
  for (std::int64_t i = 0; i < rows; i += kLanes) {
    for (std::int64_t j = 0; j < columns; j += kLanes) {
      vf t[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) t[r] = load(src + (i + r) * lds + j);
      // Swap off-diagonal blocks of size 1, 2, 4, ...
#pragma GCC unroll 4
      for (int s = 1; s < kLanes; s *= 2) {
        vi low, high;
#pragma GCC unroll 16
        for (int c = 0; c < kLanes; ++c) {
          low[c] = (c & s) ? kLanes + c - s : c;
          high[c] = (c & s) ? kLanes + c : c + s;
        }
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; ++r) {
          if (r & s) continue;
          const vf a = t[r], b = t[r + s];
          t[r] = __builtin_shuffle(a, b, low);
          t[r + s] = __builtin_shuffle(a, b, high);
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) store(dst + (j + r) * ldd + i, t[r]);
    }
  }
}

// Rows operand of a float matrix (rows,columns). `dst` may be `src` for FloatCells.
template <class Cells>
MAMBASDK_SIMD void to_rows(float* dst, std::int64_t ldd, const float* src, std::int64_t lds, std::int64_t rows,
                           std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < columns; j += kLanes) Cells::put_row(dst + r * ldd, j, load(src + r * lds + j));
}

// Columns operand of a float matrix (rows,columns), row r times scale[r] when there is a scale.
template <class Cells>
MAMBASDK_SIMD void to_columns(float* dst, std::int64_t ldd, const float* src, std::int64_t lds, std::int64_t rows,
                              std::int64_t columns, const float* scale = nullptr) {
  for (std::int64_t r = 0; r < rows; r += 2) {
    const vf s0 = set1(scale ? scale[r] : 1.0f), s1 = set1(scale ? scale[r + 1] : 1.0f);
    for (std::int64_t j = 0; j < columns; j += kLanes)
      Cells::put_columns(dst + j, ldd, r, s0 * load(src + r * lds + j), s1 * load(src + (r + 1) * lds + j));
  }
}

// Memory of one row of an input: `stride` elements apart. dst has `padded_columns`, zeros beyond `columns`.
template <class T>
MAMBASDK_SIMD void read_row(float* dst, const T* src, std::int64_t stride, std::int64_t columns,
                            std::int64_t padded_columns) {
  if (stride != 1) {
    for (std::int64_t j = 0; j < columns; ++j) dst[j] = to_float(src[j * stride]);
    for (std::int64_t j = columns; j < padded_columns; ++j) dst[j] = 0.0f;
    return;
  }
  std::int64_t j = 0;
  for (; j + kLanes <= columns; j += kLanes) store(dst + j, load(src + j));
  if (j < columns) {
    store(dst + j, load_n(src + j, static_cast<int>(columns - j)));
    j += kLanes;
  }
  for (; j < padded_columns; j += kLanes) store(dst + j, zero());
}

template <class T>
MAMBASDK_SIMD void write_row(T* dst, const float* src, std::int64_t columns) {
  for (std::int64_t j = 0; j < columns; j += kLanes)
    store_n(dst + j, load(src + j), static_cast<int>(min64(kLanes, columns - j)));
}

// ---- time ----

// Where steps [begin, begin+count) of a sequence are: element offset of step 0 and stride per step.
struct Steps {
  std::int64_t offset, stride;
};
MAMBASDK_SIMD Steps steps(const SsdProblem& p, const SsdSequence& sequence, const std::int64_t* stride) {
  const std::int64_t first = p.reverse ? sequence.begin + sequence.length - 1 : sequence.begin;
  return {sequence.batch * stride[0] + first * stride[1], p.reverse ? -stride[1] : stride[1]};
}

// Rows of one chunk of an input, for one head or group: (count -> rows, columns), zeros beyond.
template <class T>
MAMBASDK_SIMD void read_chunk(float* dst, std::int64_t ld, const SsdProblem& p, const SsdSequence& sequence,
                              const SsdInput& input, std::int64_t head, std::int64_t begin, std::int64_t count,
                              std::int64_t rows, std::int64_t columns) {
  const Steps at = steps(p, sequence, input.stride);
  const T* src = static_cast<const T*>(input.data) + at.offset + head * input.stride[2];
  for (std::int64_t i = 0; i < count; ++i)
    read_row(dst + i * ld, src + (begin + i) * at.stride, input.stride[3], columns, ld);
  for (std::int64_t i = count; i < rows; ++i)
    for (std::int64_t j = 0; j < ld; j += kLanes) store(dst + i * ld + j, zero());
}

// Asks for `rows` steps of an input, from `begin` on and `columns` elements wide, ahead of read_chunk: rows of one head
// lie too far apart for the hardware to foresee them.
template <class T>
MAMBASDK_SIMD void prefetch_steps(const SsdProblem& p, const SsdSequence& sequence, const SsdInput& input,
                                  std::int64_t head, std::int64_t begin, std::int64_t rows, std::int64_t column,
                                  std::int64_t columns) {
  if (!input.data) return;
  const Steps at = steps(p, sequence, input.stride);
  const std::int64_t end = min64(begin + rows, sequence.length);
  for (std::int64_t i = begin; i < end; ++i) {
    const char* row = reinterpret_cast<const char*>(static_cast<const T*>(input.data) + at.offset + i * at.stride +
                                                    head * input.stride[2] + column * input.stride[3]);
    for (std::int64_t j = 0; j < columns * static_cast<std::int64_t>(sizeof(T)); j += 64)
      __builtin_prefetch(row + j, 0, 2);
  }
}

// One chunk of one head. Decays are exp2 of differences of running sums s of log2-decays; a sum is kept as two floats,
// so that a difference is as exact as its operands allow. A step does not see steps before its run_start.
struct Decay {
  alignas(64) float dt[kChunk];            // after bias, softplus and limits; 0 beyond the chunk's steps
  alignas(64) float s[kChunk];             // log2 of the product of decays from the chunk's begin through this step
  alignas(64) float s_low[kChunk];         // what `s` lost to rounding
  alignas(64) float from_begin[kChunk];    // decay from the state before the chunk to this step
  alignas(64) float to_end[kChunk];        // decay from this step to the chunk's end
  alignas(64) float source[kChunk];        // dt, or 1 in the form without dt on x; 0 beyond the chunk's steps
  alignas(64) float weight[kChunk];        // to_end * source
  alignas(64) std::int32_t first[kChunk];  // first step of the chunk that this step sees; -1: the state before it too
  // Without resets, the decay from step m to step l of a later block k is late[l] * early[k][m]: through the first step
  // of block k. Both are at most 1 for decays, so the product underflows only where the decay does.
  alignas(64) float late[kChunk];
  alignas(64) float early[kChunk / kDecayBlock][kChunk];
  bool factored;
  float through;  // decay of the state across the chunk
};

MAMBASDK_SIMD vi lane_index(std::int64_t begin) {
  vi index;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) index[i] = i;
  return index + static_cast<std::int32_t>(begin);
}
MAMBASDK_SIMD vi load_int(const std::int32_t* p) {
  vi x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}

MAMBASDK_SIMD vf decay_between(vf s_late, vf low_late, vf s_early, vf low_early, vi visible) {
  const vf difference = (s_late - s_early) + (low_late - low_early);
  return select(visible, exp2(select(visible, difference, zero())), zero());
}

// dt of one chunk as it enters softplus: (kChunk), zeros beyond `count`.
template <class T>
MAMBASDK_SIMD void read_dt(float* dst, const SsdProblem& p, const SsdSequence& sequence, std::int64_t head,
                           std::int64_t begin, std::int64_t count) {
  const Steps at = steps(p, sequence, p.dt.stride);
  const T* src = static_cast<const T*>(p.dt.data) + at.offset + head * p.dt.stride[2];
  const float bias = p.dt_bias ? p.dt_bias[head] : 0.0f;
  for (std::int64_t i = 0; i < count; ++i) dst[i] = to_float(src[(begin + i) * at.stride]) + bias;
  for (std::int64_t i = count; i < kChunk; ++i) dst[i] = 0.0f;
}

template <class T>
MAMBASDK_SIMD void make_decay(Decay& d, const SsdProblem& p, const SsdSequence& sequence, std::int64_t head,
                              std::int64_t begin, std::int64_t count) {
  read_dt<T>(d.dt, p, sequence, head, begin, count);
  for (std::int64_t i = 0; i < kChunk; i += kLanes) {
    vf dt = load(d.dt + i);
    if (p.dt_softplus) dt = softplus(dt);
    dt = min(set1(p.dt_max), max(set1(p.dt_min), dt));  // in this order NaN stays NaN
    const vi inside = lane_index(i) < static_cast<std::int32_t>(count);
    dt = select(inside, dt, zero());
    store(d.dt + i, dt);
    store(d.source + i, p.dt_on_x ? dt : select(inside, set1(1.0f), zero()));
  }
  const double rate = static_cast<double>(p.A[head]) * 1.4426950408889634074;
  double sum = 0.0;
  for (std::int64_t i = 0; i < kChunk; ++i) {
    sum += rate * static_cast<double>(d.dt[i]);
    d.s[i] = static_cast<float>(sum);
    d.s_low[i] = static_cast<float>(sum - static_cast<double>(d.s[i]));
  }
  const std::int32_t* run = p.run_start ? p.run_start + sequence.batch * p.length + begin : nullptr;
  for (std::int64_t i = 0; i < kChunk; ++i) {
    const std::int64_t start = run ? run[i < count ? i : count - 1] : 0;
    d.first[i] = start == 0 || start < begin ? -1 : static_cast<std::int32_t>(start - begin);
  }
  const vf s_end = set1(d.s[kChunk - 1]), low_end = set1(d.s_low[kChunk - 1]);
  const vi first_end = vi{} + d.first[kChunk - 1];
  for (std::int64_t i = 0; i < kChunk; i += kLanes) {
    const vf s = load(d.s + i), low = load(d.s_low + i);
    store(d.from_begin + i, decay_between(s, low, zero(), zero(), load_int(d.first + i) < 0));
    const vf to_end = decay_between(s_end, low_end, s, low, lane_index(i) >= first_end);
    store(d.to_end + i, to_end);
    store(d.weight + i, to_end * load(d.source + i));
  }
  d.through = d.from_begin[kChunk - 1];
  d.factored = run == nullptr;
  if (!d.factored) return;
  for (std::int64_t k = 0; k < kChunk / kDecayBlock; ++k) {
    const std::int64_t begin_k = k * kDecayBlock;
    const vf s = set1(d.s[begin_k]), low = set1(d.s_low[begin_k]);
    for (std::int64_t i = 0; i < kDecayBlock; i += kLanes) {
      const std::int64_t l = begin_k + i;
      store(d.late + l, exp2((load(d.s + l) - s) + (load(d.s_low + l) - low)));
    }
    for (std::int64_t m = 0; m < begin_k; m += kLanes)
      store(d.early[k] + m, exp2((s - load(d.s + m)) + (low - load(d.s_low + m))));
  }
}

}  // namespace mambasdk::MAMBASDK_ISA
