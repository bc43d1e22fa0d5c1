// Calls that run from the last step to the first are forward calls on mirrored views (Tensor::mirrored). This is the
// part that is no view: where packed sequences begin.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.hpp"

namespace mambasdk {

// c'_i = c_S - c_{S-i}: the offsets of the same sequences counted from the other end, the last sequence first. The
// tensor's memory is `storage`.
[[nodiscard]] Tensor mirrored_offsets(const Tensor& cu_seqlens, std::vector<std::int32_t>& storage);

}  // namespace mambasdk
