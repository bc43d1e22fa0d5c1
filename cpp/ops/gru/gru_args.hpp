// gru: argument structs of the kernel.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "core/strided.hpp"

namespace mambasdk {

class Registry;
void register_gru(Registry& registry);

namespace gru {

// Units of a panel of packed weights: one vector each of its reset, update and new gates, whatever the instruction set.
inline constexpr std::int64_t kPanelUnits = 16;

struct Args {
  std::int64_t batch = 0, length = 0, units = 0;  // B, L, N; none is 0 but L
  DType type{2, 32}, weight_type{2, 32};
  StridedView gates;                      // (B, L, 3 N)
  StridedView weight;                     // (3 N, N)
  StridedView bias;                       // (3 N), of weight_type, or absent
  StridedView initial;                    // (B, N), or absent
  const std::int32_t* lengths = nullptr;  // (B,), within 0 and L, or null: all are L
  bool reverse = false;
  void* y = nullptr;     // (B, L, N), contiguous
  void* last = nullptr;  // (B, N), contiguous
};

}  // namespace gru

MAMBASDK_DECLARE_KERNEL(std::int64_t, gru_workspace_bytes, const gru::Args& a);
MAMBASDK_DECLARE_KERNEL(void, gru, const gru::Args& a, void* workspace, const Parallel& parallel);

}  // namespace mambasdk
