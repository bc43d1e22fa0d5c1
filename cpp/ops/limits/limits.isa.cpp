// Loops that reach the limits of ops/limits/limits.hpp.
#include "ops/limits/limits.hpp"

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr std::int64_t kPiece = 4096;  // floats; the unit of a range

template <int kInputs, int kOutputs>
MAMBASDK_SIMD vf stream(const float* const* in, float* const* out, std::int64_t begin, std::int64_t end) {
  vf total = zero();
  for (std::int64_t i = begin; i + kLanes <= end; i += kLanes) {
    vf sum = load(in[0] + i);
    for (int k = 1; k < kInputs; ++k) sum = sum + load(in[k] + i);
    for (int k = 0; k < kOutputs; ++k) store(out[k] + i, sum);
    if (kOutputs == 0) total = total + sum;
  }
  return total;
}

template <int kInputs>
vf stream_any(const float* const* in, float* const* out, int outputs, std::int64_t begin, std::int64_t end) {
  switch (outputs) {
    case 0:
      return stream<kInputs, 0>(in, out, begin, end);
    case 1:
      return stream<kInputs, 1>(in, out, begin, end);
    case 2:
      return stream<kInputs, 2>(in, out, begin, end);
    default:
      return stream<kInputs, 3>(in, out, begin, end);
  }
}

}  // namespace

float limit_bandwidth(const float* const* in, int inputs, float* const* out, int outputs, std::int64_t count,
                      const Parallel& parallel) {
  float sum = 0.0f;
  parallel((count + kPiece - 1) / kPiece, 4, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t begin = first * kPiece;
    const std::int64_t end = last * kPiece < count ? last * kPiece : count;
    vf part;
    switch (inputs) {
      case 1:
        part = stream_any<1>(in, out, outputs, begin, end);
        break;
      case 2:
        part = stream_any<2>(in, out, outputs, begin, end);
        break;
      default:
        part = stream_any<3>(in, out, outputs, begin, end);
        break;
    }
    // Keeps the reads alive; which range's sum is returned does not matter.
    if (outputs == 0 && begin == 0) sum = reduce_add(part);
    asm volatile("" : : "m"(part) : "memory");
  });
  return sum;
}

}  // namespace mambasdk::MAMBASDK_ISA
