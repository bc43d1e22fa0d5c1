// State-space duality (Mamba-2): plain argument structs of the kernels, and the registration of the family.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "core/strided.hpp"

namespace mambasdk {

class Registry;
void register_ssd(Registry& registry);

namespace ssd {

inline constexpr std::int64_t kSsdChunk = 64;  // steps between the states of chunk_states

// One independent run of the recurrence. Steps are counted in scan order: step 0 is the last one in time when reversed.
struct SsdSequence {
  std::int64_t batch;
  std::int64_t begin;  // first position in time
  std::int64_t length;
  std::int64_t first_chunk;  // its place in chunk_states
};

struct SsdProblem {
  DType dtype;                                          // of x, B, C, y and their gradients: f32, bf16 or f16
  std::int64_t length, heads, head_dim, groups, state;  // L, H, P, G, N
  StridedView x;                                        // (B,L,H,P)
  StridedView dt;                                       // (B,L,H)
  StridedView B, C;                                     // (B,L,G,N)
  StridedView z;                                        // (B,L,H,P)
  StridedView initial_state;                            // (S,H,P,N) float32
  const float* A;                                       // (H)
  const float* D;                                       // (H,skip_width), null when absent
  const float* dt_bias;                                 // (H), null when absent
  std::int64_t skip_width;                              // 1 or P
  const SsdSequence* sequences;                         // (S)
  std::int64_t sequence_count, max_length;
  const std::int32_t* run_start;  // (B,L) in scan order: the first step of the run that a step is in; null: no resets
  bool dt_softplus, dt_on_x, reverse;
  bool wide_dt, wide_z;  // dt, z and their gradients are float32 whatever dtype is
  float dt_min, dt_max;
};

struct SsdForward {
  SsdProblem problem;
  void* y;             // (B,L,H,P)
  float* final_state;  // (S,H,P,N) or null
  void* chunk_states;  // (chunks,H,N,P) or null: the state before every chunk; float32 where dtype is f16
  bool wide_y;         // y is float32 where dtype is f16
};

// One step for every batch entry: the problem has length 1, an initial_state, and one sequence per batch entry.
struct SsdUpdate {
  SsdProblem problem;
  DType state_dtype;          // of initial_state and new_state: f32, bf16 or f16
  const std::int32_t* slots;  // (B): where the state of a batch entry is, -1: nowhere; null: at its own place
  void* y;                    // (B,1,H,P)
  void* new_state;            // (S,H,P,N); may be the memory of initial_state
};

struct SsdBackward {
  SsdProblem problem;
  StridedView grad_y;            // (B,L,H,P) or absent
  StridedView grad_final_state;  // (S,H,P,N) float32 or absent
  const void* chunk_states;      // as ssd made them, contiguous; null: computed again
  const void* ungated;           // (B,L,H,P), y before the gate; float32 where dtype is f16; null without z
  void* grad_x;                  // (B,L,H,P)
  void* grad_dt;                 // (B,L,H)
  float* grad_A;                 // (H)
  void* grad_B;                  // (B,L,G,N)
  void* grad_C;                  // (B,L,G,N)
  float* grad_D;                 // (H,skip_width) or null
  void* grad_z;                  // (B,L,H,P) or null
  float* grad_dt_bias;           // (H) or null
  float* grad_initial_state;     // (S,H,P,N) or null
};

}  // namespace ssd

MAMBASDK_DECLARE_PRODUCT_KERNEL(std::int64_t, ssd_workspace_bytes, const ssd::SsdForward& call);
MAMBASDK_DECLARE_PRODUCT_KERNEL(void, ssd, const ssd::SsdForward& call, void* workspace, const Parallel& parallel);
MAMBASDK_DECLARE_KERNEL(void, ssd_state_update, const ssd::SsdUpdate& call, const Parallel& parallel);
MAMBASDK_DECLARE_PRODUCT_KERNEL(std::int64_t, ssd_backward_workspace_bytes, const ssd::SsdBackward& call);
MAMBASDK_DECLARE_PRODUCT_KERNEL(void, ssd_backward, const ssd::SsdBackward& call, void* workspace,
                                const Parallel& parallel);

}  // namespace mambasdk
