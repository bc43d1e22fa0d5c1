// Plain arguments of the selective-scan kernels, and the declarations of their variants. Safe to include from
// *.isa.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/isa.hpp"
#include "core/strided.hpp"
#include "ops/thread_scratch.hpp"

namespace mambasdk {
namespace selective_scan {

inline constexpr std::int64_t kScanChunk = 128;  // steps between saved states

struct SelectiveScanArgs {
  std::int64_t batch, length, channels;  // B, L, D
  std::int64_t routes, steps, params;    // K, M, P
  std::int64_t groups, states;           // G, N
  std::int64_t sequences;                // S
  DType type;                            // of T
  DType delta_type, z_type;              // of delta and z and their gradients: T, or float32 beside a 16-bit T
  bool delta_softplus, step_params;
  StridedView u;              // T[B,L,D]
  StridedView delta;          // W[B,K,P,D]
  StridedView A;              // acc[K,D,N]
  StridedView B, C;           // T[B,K,P,G,N]
  StridedView D;              // acc[K,D]
  StridedView z;              // R[B,L,D]
  StridedView delta_bias;     // acc[K,D]
  StridedView initial_state;  // acc[S,K,D,N]
  StridedView order;          // i32[K,M]
  StridedView cu_seqlens;     // i32[S+1]
  StridedView y;              // T[B,L,D]; absent: only the states are computed
  StridedView final_state;    // acc[S,K,D,N]
  StridedView chunk_states;   // acc[B,K,Q,D,N]; the state before step 128q; q = 0 is zero and never read

  MAMBASDK_ALWAYS_INLINE bool wide_delta() const { return delta_type.bits != type.bits; }
  MAMBASDK_ALWAYS_INLINE bool wide_z() const { return z_type.bits != type.bits; }
};

struct SelectiveScanGrads {
  StridedView grad_y;            // T[B,L,D]
  StridedView grad_final_state;  // acc[S,K,D,N]
  StridedView grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_z, grad_delta_bias, grad_initial_state;
};

// The scalar kernels: every dtype, double accumulation.
void reference_forward(const SelectiveScanArgs& args);
void reference_backward(const SelectiveScanArgs& args, const SelectiveScanGrads& grads);

}  // namespace selective_scan

// `workspace` bytes are needed beside the ranges' scratch. The kernels return false when scratch ran out.
MAMBASDK_DECLARE_KERNEL(std::size_t, selective_scan_workspace, const selective_scan::SelectiveScanArgs& args);
MAMBASDK_DECLARE_KERNEL(bool, selective_scan_forward, const selective_scan::SelectiveScanArgs& args, Parallel parallel,
                        ThreadScratch scratch, void* workspace);
MAMBASDK_DECLARE_KERNEL(std::size_t, selective_scan_backward_workspace, const selective_scan::SelectiveScanArgs& args,
                        const selective_scan::SelectiveScanGrads& grads);
MAMBASDK_DECLARE_KERNEL(bool, selective_scan_backward, const selective_scan::SelectiveScanArgs& args,
                        const selective_scan::SelectiveScanGrads& grads, Parallel parallel, ThreadScratch scratch,
                        void* workspace);

}  // namespace mambasdk
