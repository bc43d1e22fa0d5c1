// Loops that reach the limits of limits.hpp.
#include "limits.hpp"

#include "core/simd.hpp"
#include "ops/selective_scan/scan_exp.hpp"

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

// `count` floats as kStreams pieces side by side; what does not fill them is left out.
template <int kStreams>
MAMBASDK_SIMD vf read_streams(const float* data, std::int64_t count) {
  constexpr int kVectors = 8 / kStreams;  // eight sums in all
  const std::int64_t each = count / kStreams;
  vf total[kStreams][kVectors] = {};
  for (std::int64_t i = 0; i + kVectors * kLanes <= each; i += kVectors * kLanes) {
    MAMBASDK_UNROLL
    for (int s = 0; s < kStreams; ++s) {
      MAMBASDK_UNROLL
      for (int v = 0; v < kVectors; ++v) total[s][v] = total[s][v] + load(data + s * each + i + v * kLanes);
    }
  }
  vf sum = zero();
  for (int s = 0; s < kStreams; ++s)
    for (int v = 0; v < kVectors; ++v) sum = sum + total[s][v];
  return sum;
}

#if defined(__AVX512F__)
constexpr int kScanStates = 16;  // states in registers
#elif defined(__AVX2__)
constexpr int kScanStates = 8;
#else
constexpr int kScanStates = 4;
#endif

// One vector of channels over all steps.
void scan_channels(std::int64_t steps, std::int64_t channels, const float* delta, const float* u, const float* A,
                   const float* B, const float* C, float* y) {
  constexpr std::int64_t kAhead = 8;  // rows; a row is too far from the next for the hardware's prefetcher
  const FloatExp2 exp2_of = FloatExp2::make();
  for (int first = 0; first < 16; first += kScanStates) {
    vf h[kScanStates] = {};
    for (std::int64_t t = 0; t < steps; ++t) {
      const vf d = load(delta + t * channels), x = d * load(u + t * channels);
      __builtin_prefetch(delta + (t + kAhead) * channels);
      __builtin_prefetch(u + (t + kAhead) * channels);
      vf even = first == 0 ? zero() : load(y + t * channels), odd = zero();
      MAMBASDK_UNROLL
      for (int n = 0; n < kScanStates; ++n) {
        h[n] = exp2_of(d * load(A + (first + n) * kScanLimitLanes)) * h[n] + x * B[t * 16 + first + n];
        if (n % 2 == 0) {
          even = even + h[n] * C[t * 16 + first + n];
        } else {
          odd = odd + h[n] * C[t * 16 + first + n];
        }
      }
      store(y + t * channels, even + odd);
    }
  }
}

// One vector of channels over all steps, four states at a time over rows that stay in the first cache.
void scan_channels_backward(std::int64_t steps, std::int64_t channels, const float* delta, const float* u,
                            const float* A, const float* B, const float* C, const float* grad_y, float* grad_u,
                            float* grad_delta) {
  constexpr std::int64_t kRows = 64;
  constexpr int kStates = 4;
  const FloatExp2 exp2_of = FloatExp2::make();
  vf states[16] = {}, carries[16] = {}, sums[16] = {}, of_B = zero(), of_C = zero();
  alignas(64) float rows[5][kRows * kLanes];
  for (std::int64_t t0 = 0; t0 < steps; t0 += kRows) {
    const std::int64_t count = steps - t0 < kRows ? steps - t0 : kRows;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t at = (t0 + i) * channels;
      const vf d = load(delta + at);
      store(rows[0] + i * kLanes, d);
      store(rows[1] + i * kLanes, d * load(u + at));
      store(rows[2] + i * kLanes, load(grad_y + at));
      store(rows[3] + i * kLanes, zero());
      store(rows[4] + i * kLanes, zero());
    }
    for (int first = 0; first < 16; first += kStates) {
      // Each group of states asks for rows of one array: inputs of the next tile, or where this one will write.
      const float* const wanted[] = {delta + kRows * channels, u + kRows * channels, grad_y + kRows * channels, grad_u};
      const float* const ahead = wanted[first / kStates] + t0 * channels;
      const float* const ahead_too = first < 12 ? ahead : grad_delta + t0 * channels;
      vf h[kStates], w[kStates], sum[kStates];
      for (int n = 0; n < kStates; ++n) h[n] = states[first + n], w[n] = carries[first + n], sum[n] = sums[first + n];
      for (std::int64_t i = 0; i < count; ++i) {
        __builtin_prefetch(ahead + i * channels);
        __builtin_prefetch(ahead_too + i * channels);
        const float *b = B + (t0 + i) * 16 + first, *c = C + (t0 + i) * 16 + first;
        const vf d = load(rows[0] + i * kLanes), x = load(rows[1] + i * kLanes), g = load(rows[2] + i * kLanes);
        vf sum_dt = load(rows[3] + i * kLanes), sum_dx = load(rows[4] + i * kLanes);
        MAMBASDK_UNROLL
        for (int n = 0; n < kStates; ++n) {
          const vf a = exp2_of(d * load(A + (first + n) * kScanLimitLanes));
          h[n] = a * h[n] + x * b[n];
          const vf dh = w[n] + g * c[n];
          of_B = of_B + dh * x;
          of_C = of_C + g * h[n];
          sum_dx = sum_dx + dh * b[n];
          w[n] = dh * a;
          const vf dz = w[n] * h[n];
          sum_dt = sum_dt + dz * load(A + (first + n) * kScanLimitLanes);
          sum[n] = sum[n] + dz * d;
        }
        store(rows[3] + i * kLanes, sum_dt);
        store(rows[4] + i * kLanes, sum_dx);
      }
      for (int n = 0; n < kStates; ++n) states[first + n] = h[n], carries[first + n] = w[n], sums[first + n] = sum[n];
    }
    for (std::int64_t i = 0; i < count; ++i) {
      store(grad_delta + (t0 + i) * channels, load(rows[3] + i * kLanes));
      store(grad_u + (t0 + i) * channels, load(rows[4] + i * kLanes));
    }
  }
  asm volatile("" : : "m"(sums), "m"(of_B), "m"(of_C));
}

// `step` on eight independent vectors, `count` vectors in all.
template <class F>
void in_registers(std::int64_t count, const Parallel& parallel, F step) {
  parallel(count / 8, 1 << 12, [&](std::int64_t begin, std::int64_t end) {
    vf x[8];
    for (int i = 0; i < 8; ++i) {
      x[i] = set1(-0.01f * static_cast<float>(i));
      opaque(x[i]);
    }
    for (std::int64_t k = begin; k < end; ++k) {
      MAMBASDK_UNROLL
      for (int i = 0; i < 8; ++i) x[i] = step(x[i]);
    }
    for (int i = 0; i < 8; ++i) asm volatile("" : : "m"(x[i]));
  });
}

}  // namespace

void limit_exp(std::int64_t count, const Parallel& parallel) {
  in_registers(count, parallel, [](vf x) __attribute__((always_inline)) { return FloatExp2::make()(x * -0.5f); });
}

void limit_fma(std::int64_t count, const Parallel& parallel) {
  in_registers(count, parallel, [](vf x) __attribute__((always_inline)) { return x * 0.5f + 0.25f; });
}

void limit_pairs(std::int64_t count, const Parallel& parallel) {
#if defined(__AVX512BF16__)
  const vf pairs = from_bits(vu{} + 0x3f003f00u);
  in_registers(count, parallel, [&](vf x) __attribute__((always_inline)) {
    return (vf)_mm512_dpbf16_ps((__m512)x, (__m512bh)pairs, (__m512bh)pairs);
  });
#else
  limit_fma(2 * count, parallel);
#endif
}

void limit_scan(std::int64_t steps, std::int64_t channels, const float* delta, const float* u, const float* A,
                const float* B, const float* C, float* y, const Parallel& parallel) {
  parallel(channels / kLanes, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t d = i * kLanes, block = d / kScanLimitLanes, lane = d % kScanLimitLanes;
      scan_channels(steps, channels, delta + d, u + d, A + block * 16 * kScanLimitLanes + lane, B, C, y + d);
    }
  });
}

void limit_scan_backward(std::int64_t steps, std::int64_t channels, const float* delta, const float* u, const float* A,
                         const float* B, const float* C, const float* grad_y, float* grad_u, float* grad_delta,
                         const Parallel& parallel) {
  parallel(channels / kLanes, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t d = i * kLanes, block = d / kScanLimitLanes, lane = d % kScanLimitLanes;
      scan_channels_backward(steps, channels, delta + d, u + d, A + block * 16 * kScanLimitLanes + lane, B, C,
                             grad_y + d, grad_u + d, grad_delta + d);
    }
  });
}

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

float limit_read(const float* data, std::int64_t count, int streams, const Parallel& parallel) {
  float sum = 0.0f;
  parallel((count + kPiece - 1) / kPiece, 8, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t begin = first * kPiece, end = last * kPiece < count ? last * kPiece : count;
    vf part;
    switch (streams) {
      case 1:
        part = read_streams<1>(data + begin, end - begin);
        break;
      case 2:
        part = read_streams<2>(data + begin, end - begin);
        break;
      case 4:
        part = read_streams<4>(data + begin, end - begin);
        break;
      default:
        part = read_streams<8>(data + begin, end - begin);
        break;
    }
    if (begin == 0) sum = reduce_add(part);
    asm volatile("" : : "m"(part) : "memory");
  });
  return sum;
}

}  // namespace mambasdk::MAMBASDK_ISA
