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

}  // namespace mambasdk
