// Steps of a sequence in memory: where they are, reading a chunk of them, and asking for it ahead. For *.isa.cpp only.
#pragma once

#include "ops/ssd/operands.hpp"
#include "ops/ssd/ssd_args.hpp"

namespace mambasdk::MAMBASDK_ISA {

using namespace ssd;

inline constexpr std::int64_t kChunk = kSsdChunk;

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
                              const StridedView& input, std::int64_t head, std::int64_t begin, std::int64_t count,
                              std::int64_t rows, std::int64_t columns) {
  const Steps at = steps(p, sequence, input.stride);
  const T* src = static_cast<const T*>(input.data) + at.offset + head * input.stride[2];
  for (std::int64_t i = 0; i < count; ++i)
    read_row(dst + i * ld, src + (begin + i) * at.stride, input.stride[3], columns, ld);
  for (std::int64_t i = count; i < rows; ++i)
    for (std::int64_t j = 0; j < ld; j += kLanes) store(dst + i * ld + j, zero());
}

// Rows operand of one chunk of an input, for one head or group: rows beyond `count` and columns beyond `columns` are
// zero. Bfloat16 products take bfloat16 as it lies in memory.
template <class T, class Cells>
MAMBASDK_SIMD void read_rows(float* dst, std::int64_t ld, const SsdProblem& p, const SsdSequence& sequence,
                             const StridedView& input, std::int64_t head, std::int64_t begin, std::int64_t count,
                             std::int64_t rows, std::int64_t columns) {
  if constexpr (Cells::kPerCell == 1) {
    read_chunk<T>(dst, ld, p, sequence, input, head, begin, count, rows, columns);
  } else {
    const Steps at = steps(p, sequence, input.stride);
    const T* src = static_cast<const T*>(input.data) + at.offset + head * input.stride[2] + begin * at.stride;
    for (std::int64_t i = 0; i < count; ++i, src += at.stride) {
      std::int64_t j = 0;
      if (input.stride[3] == 1)
        for (; j + 2 * kLanes <= columns; j += 2 * kLanes) store(dst + i * ld + j / 2, load_bits(src + j));
      for (; j < 2 * ld; j += 2 * kLanes) {
        alignas(64) T tail[2 * kLanes] = {};
        for (std::int64_t c = j; c < min64(columns, j + 2 * kLanes); ++c) tail[c - j] = src[c * input.stride[3]];
        store(dst + i * ld + j / 2, load_bits(tail));
      }
    }
    for (std::int64_t i = count; i < rows; ++i)
      for (std::int64_t j = 0; j < ld; j += kLanes) store(dst + i * ld + j, zero());
  }
}

// Asks for `rows` rows of memory to be written, `apart` elements apart and `columns` wide.
template <class T>
MAMBASDK_SIMD void prefetch_output(T* out, std::int64_t apart, std::int64_t rows, std::int64_t columns) {
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns * static_cast<std::int64_t>(sizeof(T)); j += 64)
      __builtin_prefetch(reinterpret_cast<const char*>(out + i * apart) + j, 1, 3);
}

// Asks for `rows` steps of an input, from `begin` on and `columns` elements wide, ahead of read_chunk: rows of one head
// lie too far apart for the hardware to foresee them.
template <class T>
MAMBASDK_SIMD void prefetch_steps(const SsdProblem& p, const SsdSequence& sequence, const StridedView& input,
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

}  // namespace mambasdk::MAMBASDK_ISA
