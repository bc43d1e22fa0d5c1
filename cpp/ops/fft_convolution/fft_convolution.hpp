// fft_convolution: argument structs of the kernels, and the rule for the transform's length.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "core/strided.hpp"

namespace mambasdk {

class Registry;
void register_fft_convolution(Registry& registry);

namespace fft_convolution {

inline constexpr std::int64_t kDirectTaps = 128;   // at most this many taps are cheaper as sums of products
inline constexpr std::int64_t kDirectSteps = 512;  // steps of a task of those
inline constexpr std::int64_t kLeastPoints = 64;   // complex points of the shortest transform
inline constexpr std::int64_t kBatchTogether = 8;  // rows of the batch that share a transformed kernel, at most
inline constexpr std::int64_t kLanesAtMost = 16;   // channels of a task, at most

// The least power of two that holds the whole convolution of `length` steps and `taps` taps: length + taps - 1 or more.
// As both are real and the transform is complex, it has half as many points.
MAMBASDK_ALWAYS_INLINE std::int64_t fft_length(std::int64_t length, std::int64_t taps) {
  std::int64_t n = 2 * kLeastPoints;
  while (n < length + taps - 1) n *= 2;
  return n;
}

// No extent is 0 but taps.
struct Args {
  std::int64_t batch = 0, length = 0, channels = 0, taps = 0;  // B L D, and the taps that reach the sequence
  DType type{2, 32};
  StridedView x;       // (B, L, D)
  StridedView kernel;  // (taps, D) of float32
  StridedView skip;    // (D) of float32, or absent
  bool reverse = false;
  void* y = nullptr;  // (B, L, D), contiguous
};

}  // namespace fft_convolution

MAMBASDK_DECLARE_KERNEL(std::int64_t, fft_convolution_workspace_bytes, const fft_convolution::Args& a);
MAMBASDK_DECLARE_KERNEL(void, fft_convolution, const fft_convolution::Args& a, void* workspace,
                        const Parallel& parallel);
// The same by sums of products, for few taps.
MAMBASDK_DECLARE_KERNEL(std::int64_t, direct_convolution_workspace_bytes, const fft_convolution::Args& a);
MAMBASDK_DECLARE_KERNEL(void, direct_convolution, const fft_convolution::Args& a, void* workspace,
                        const Parallel& parallel);

}  // namespace mambasdk
