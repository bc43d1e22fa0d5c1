// Plain arguments of the selective_state_update kernel. Safe to include from *.isa.cpp.
#pragma once

#include "ops/selective_scan/scan_args.hpp"

namespace mambasdk {

struct SelectiveUpdateArgs {
  std::int64_t batch, channels, groups, states;  // B, D, G, N
  DType type;                                    // of T
  bool delta_softplus;
  ScanView state;       // acc[B,D,N]
  ScanView x, delta;    // T[B,D]
  ScanView A;           // acc[D,N]
  ScanView B, C;        // T[B,G,N]
  ScanView D;           // acc[D]
  ScanView z;           // T[B,D]
  ScanView delta_bias;  // acc[D]
  ScanView y;           // T[B,D], contiguous
  ScanView new_state;   // acc[B,D,N], contiguous; may be the memory of `state`
};

MAMBASDK_DECLARE_KERNEL(void, selective_state_update, const SelectiveUpdateArgs& args, Parallel parallel);

}  // namespace mambasdk
