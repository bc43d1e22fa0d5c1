// Plain arguments of the selective_state_update kernel. Safe to include from *.isa.cpp.
#pragma once

#include "ops/selective_scan/scan_args.hpp"

namespace mambasdk {
namespace selective_state_update {

struct UpdateArgs {
  std::int64_t batch, channels, groups, states;  // B, D, G, N
  DType type;                                    // of T
  DType state_type;                              // of state and new_state: f32, bf16 or f16
  bool delta_softplus;
  bool wide_delta, wide_z;    // they are float32 whatever `type` is
  const std::int32_t* slots;  // (B): where the state of a row is, -1: nowhere; null: at its own place
  StridedView state;          // U[S,D,N]
  StridedView x, delta;       // T[B,D]
  StridedView A;              // acc[D,N]
  StridedView B, C;           // T[B,G,N]
  StridedView D;              // acc[D]
  StridedView z;              // T[B,D]
  StridedView delta_bias;     // acc[D]
  StridedView y;              // T[B,D], contiguous
  StridedView new_state;      // U[S,D,N], contiguous; may be the memory of `state`
};

}  // namespace selective_state_update

MAMBASDK_DECLARE_KERNEL(void, selective_state_update, const selective_state_update::UpdateArgs& args,
                        Parallel parallel);

}  // namespace mambasdk
