// Plain arguments of the selective-scan kernels, and the declarations of their variants. Safe to include from
// *.isa.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/isa.hpp"

namespace mambasdk {

inline constexpr std::int64_t kScanChunk = 128;  // steps between saved states

// A strided view; strides count elements. An absent tensor has data == nullptr.
struct ScanView {
  void* data = nullptr;
  std::int64_t stride[5] = {};
};

// Scratch memory of one running range; returns nullptr when there is none.
struct ScanScratch {
  void* self;
  void* (*get)(void* self, std::size_t bytes);
  void (*put)(void* self, void* data, std::size_t bytes);
};

struct SelectiveScanArgs {
  std::int64_t batch, length, channels;  // B, L, D
  std::int64_t routes, steps, params;    // K, M, P
  std::int64_t groups, states;           // G, N
  std::int64_t sequences;                // S
  DType type;                            // of T
  bool delta_softplus, step_params;
  ScanView u;              // T[B,L,D]
  ScanView delta;          // T[B,K,P,D]
  ScanView A;              // acc[K,D,N]
  ScanView B, C;           // T[B,K,P,G,N]
  ScanView D;              // acc[K,D]
  ScanView z;              // T[B,L,D]
  ScanView delta_bias;     // acc[K,D]
  ScanView initial_state;  // acc[S,K,D,N]
  ScanView order;          // i32[K,M]
  ScanView cu_seqlens;     // i32[S+1]
  ScanView y;              // T[B,L,D]; absent: only the states are computed
  ScanView final_state;    // acc[S,K,D,N]
  ScanView chunk_states;   // acc[B,K,Q,D,N]; the state before step 128q; q = 0 is zero and never read
};

struct SelectiveScanGrads {
  ScanView grad_y;            // T[B,L,D]
  ScanView grad_final_state;  // acc[S,K,D,N]
  ScanView grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_z, grad_delta_bias, grad_initial_state;
};

// `workspace` bytes are needed beside the ranges' scratch. The kernels return false when scratch ran out.
MAMBASDK_DECLARE_KERNEL(std::size_t, selective_scan_workspace, const SelectiveScanArgs& args);
MAMBASDK_DECLARE_KERNEL(bool, selective_scan_forward, const SelectiveScanArgs& args, Parallel parallel,
                        ScanScratch scratch, void* workspace);
MAMBASDK_DECLARE_KERNEL(std::size_t, selective_scan_backward_workspace, const SelectiveScanArgs& args,
                        const SelectiveScanGrads& grads);
MAMBASDK_DECLARE_KERNEL(bool, selective_scan_backward, const SelectiveScanArgs& args, const SelectiveScanGrads& grads,
                        Parallel parallel, ScanScratch scratch, void* workspace);

// The scalar kernels: every dtype, double accumulation.
void selective_scan_reference(const SelectiveScanArgs& args);
void selective_scan_backward_reference(const SelectiveScanArgs& args, const SelectiveScanGrads& grads);

}  // namespace mambasdk
