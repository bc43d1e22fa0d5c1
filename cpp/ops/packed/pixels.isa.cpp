// Copies of pixels (contract: pixels.hpp).
#include "ops/packed/pixels.hpp"

#include "core/simd_types.hpp"
#include "kernels/transpose.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using packed::PixelLine;

[[gnu::noinline]] void clear(float* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, zero());
  for (; i < n; ++i) to[i] = 0.0f;
}

template <class T>
MAMBASDK_SIMD void copy_floats(const T* from, std::int64_t n, float* to) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(from + i));
  if (i < n) store_n(to + i, load_n(from + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

// Neighbouring pixels are neighbours in memory, their channels are not: squares of both, transposed in registers.
template <class T>
MAMBASDK_SIMD void transpose_pixels(const T* from, const PixelLine& p, std::int64_t n, float* to) {
  for (std::int64_t j = 0; j < n; j += kLanes) {
    const int width = static_cast<int>(n - j < kLanes ? n - j : kLanes);
    for (std::int64_t c = 0; c < p.channels; c += kLanes) {
      const int depth = static_cast<int>(p.channels - c < kLanes ? p.channels - c : kLanes);
      vf square[kLanes];
      for (int i = 0; i < kLanes; ++i)
        square[i] = i < depth ? load_n(from + (c + i) * p.channel_stride + j, width) : zero();
      transpose(square);
      for (int i = 0; i < width; ++i) store_n(to + (j + i) * p.pitch + c, square[i], depth);
    }
  }
}

// n pixels from `from` on.
template <class T>
void copy_some(const T* from, const PixelLine& p, std::int64_t n, float* to) {
  if (p.channel_stride == 1 || p.channels == 1) {
    if (p.stride == p.channels && p.pitch == p.channels) return copy_floats(from, n * p.channels, to);
    for (std::int64_t j = 0; j < n; ++j) copy_floats(from + j * p.stride, p.channels, to + j * p.pitch);
  } else if (p.stride == 1) {
    transpose_pixels(from, p, n, to);
  } else {
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t c = 0; c < p.channels; ++c)
        to[j * p.pitch + c] = to_float(from[j * p.stride + c * p.channel_stride]);
  }
}

}  // namespace

void copy_pixels(const PixelLine& line, std::int64_t first, std::int64_t step, std::int64_t n, float* to) {
  MAMBASDK_SHARE_AVX512(false, copy_pixels(line, first, step, n, to));
  const auto limit = [n](std::int64_t i) { return i < 0 ? 0 : i > n ? n : i; };
  // The first i with first + i * step >= 0, and the first with first + i * step >= width.
  const std::int64_t begin = first >= 0 ? 0 : limit(-(first / step) + (first % step != 0 ? 1 : 0));
  const std::int64_t left = line.width - first;
  const std::int64_t end = left <= 0 ? 0 : limit(left / step + (left % step != 0 ? 1 : 0));
  if (begin >= end) return clear(to, n * line.pitch);
  clear(to, begin * line.pitch);
  PixelLine some = line;
  some.stride *= step;
  with_type(line.type, [&]<class T>(T) {
    const T* from = static_cast<const T*>(line.data) + (first + begin * step) * line.stride;
    copy_some(from, some, end - begin, to + begin * line.pitch);
  });
  clear(to + end * line.pitch, (n - end) * line.pitch);
}

}  // namespace mambasdk::MAMBASDK_ISA
