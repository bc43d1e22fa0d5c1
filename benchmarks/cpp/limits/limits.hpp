// What this machine can do at best, measured beside a kernel: loops that do nothing but one resource's work.
#pragma once

#include <cstdint>

#include "core/isa.hpp"

namespace mambasdk {

// Memory: reads `inputs` arrays of `count` floats each and writes `outputs` arrays (at most 3 of each), doing one
// addition per element read. The bandwidth limit of any kernel with that traffic, at that working set. Returns a sum of
// what was read when outputs is 0, else 0.
MAMBASDK_DECLARE_KERNEL(float, limit_bandwidth, const float* const* in, int inputs, float* const* out, int outputs,
                        std::int64_t count, const Parallel& parallel);

// Memory read alone: each thread adds up its share of `count` floats as `streams` pieces side by side, 1, 2, 4 or 8 of
// them. Returns a sum of what was read.
MAMBASDK_DECLARE_KERNEL(float, limit_read, const float* data, std::int64_t count, int streams,
                        const Parallel& parallel);

// Arithmetic: `count` vectors of 2^z (the scan's own, per kLanes floats) or of fused multiply-adds, in registers.
MAMBASDK_DECLARE_KERNEL(void, limit_exp, std::int64_t count, const Parallel& parallel);
MAMBASDK_DECLARE_KERNEL(void, limit_fma, std::int64_t count, const Parallel& parallel);
// `count` vectors of kLanes sums of two products of bfloat16; without such an instruction as many multiply-adds of
// float32.
MAMBASDK_DECLARE_KERNEL(void, limit_pairs, std::int64_t count, const Parallel& parallel);
// `count` products of two tiles of bfloat16 in tile registers, kTileLimitAdds multiply-adds each.
inline constexpr std::int64_t kTileLimitAdds = 16 * 16 * 32;
MAMBASDK_IF_AVX512_AMX(MAMBASDK_DECLARE_IN(avx512_amx, void, limit_tiles, std::int64_t count, const Parallel& parallel))

// The selective scan's exponentials and multiply-adds and nothing else, for 16 states: h = 2^(delta A) h + delta u B,
// y = sum C h. delta, u, y (steps, channels), B, C (steps, 16), A (channels / kScanLimitLanes, 16, kScanLimitLanes),
// all contiguous; channels is a multiple of kScanLimitLanes.
inline constexpr std::int64_t kScanLimitLanes = 16;
MAMBASDK_DECLARE_KERNEL(void, limit_scan, std::int64_t steps, std::int64_t channels, const float* delta, const float* u,
                        const float* A, const float* B, const float* C, float* y, const Parallel& parallel);

// The same for its backward: the exponentials and multiply-adds that recompute states, and the eight multiply-adds of a
// state that gradients take, on running values instead of kept ones, without sums across lanes. Not a gradient: its
// arithmetic. Reads and writes rows of the same shapes as u and delta do: grad_y, and grad_u, grad_delta.
MAMBASDK_DECLARE_KERNEL(void, limit_scan_backward, std::int64_t steps, std::int64_t channels, const float* delta,
                        const float* u, const float* A, const float* B, const float* C, const float* grad_y,
                        float* grad_u, float* grad_delta, const Parallel& parallel);

}  // namespace mambasdk
