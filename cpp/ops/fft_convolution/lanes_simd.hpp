// Neighbouring channels of a step as one vector. For *.isa.cpp only.
#pragma once

#include "ops/fft_convolution/fft_convolution.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace fft_convolution;
using Index = std::int64_t;

MAMBASDK_SIMD Index min64(Index a, Index b) {
  return a < b ? a : b;
}

// Steps of `lanes` channels; a lane past them reads as 0.
template <class T>
struct Steps {
  const T* data;
  Index stride;  // from step to step
  Index channel_stride;
  int lanes;

  MAMBASDK_ALWAYS_INLINE vf at(Index t) const { return load_strided(data + t * stride, channel_stride, lanes); }
};

// Channels [d, d + lanes) of row b of the batch, in the order of the convolution.
template <class T>
MAMBASDK_SIMD Steps<T> steps_of(const Args& a, Index b, Index d, int lanes) {
  const T* data = static_cast<const T*>(a.x.data) + b * a.x.stride[0] + d * a.x.stride[2];
  const Index stride = a.x.stride[1], channels = lanes > 1 ? a.x.stride[2] : 1;
  return a.reverse ? Steps<T>{data + (a.length - 1) * stride, -stride, channels, lanes}
                   : Steps<T>{data, stride, channels, lanes};
}
MAMBASDK_SIMD Steps<float> taps_of(const Args& a, Index d, int lanes) {
  return {static_cast<const float*>(a.kernel.data) + d * a.kernel.stride[1], a.kernel.stride[0],
          lanes > 1 ? a.kernel.stride[1] : 1, lanes};
}
MAMBASDK_SIMD vf skip_of(const Args& a, Index d, int lanes) {
  if (a.skip.data == nullptr) return zero();
  return Steps<float>{static_cast<const float*>(a.skip.data) + d * a.skip.stride[0], 0,
                      lanes > 1 ? a.skip.stride[0] : 1, lanes}
      .at(0);
}
// Where y of step t of the convolution's order is.
template <class T>
MAMBASDK_SIMD T* output_of(const Args& a, Index b, Index t, Index d) {
  return static_cast<T*>(a.y) + (b * a.length + (a.reverse ? a.length - 1 - t : t)) * a.channels + d;
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
