// The recurrence x_t = a_t x_{t-1} + b_t, channel by channel: plain argument structs and the registration.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "core/strided.hpp"

namespace mambasdk {

class Registry;
void register_diagonal_scan(Registry& registry);

namespace diagonal_scan {

// A sequence is a batch entry or, with offsets, the steps [offsets[s], offsets[s+1]) of the only one; the states are
// the sequences'. Step 0 is the last one in time when reversed. Outputs are contiguous.
struct Sequences {
  std::int64_t count, length;   // length: of a batch entry
  const std::int32_t* offsets;  // (count+1,) or null
};

struct ForwardArgs {
  DType dtype;  // f32, bf16, f16 or c64
  Sequences sequences;
  std::int64_t channels;
  bool reverse;
  StridedView b, a, initial_state;  // (batch, length, channel), stride 0 where a repeats; a state has a length of 1
  void* x;                          // (B,L,D)
  void* final_state;                // (S,D) or null
};

struct BackwardArgs {
  DType dtype;
  Sequences sequences;
  std::int64_t channels;
  bool reverse;
  StridedView grad_x, grad_final_state, a, x, initial_state;  // as there
  bool shared_batch, shared_length;                           // a has extent 1 there: its gradient is a sum
  void* grad_b;                                               // (B,L,D)
  void* grad_a;                                               // (B or 1, L or 1, D)
  void* grad_initial_state;                                   // (S,D) or null
};

}  // namespace diagonal_scan

MAMBASDK_DECLARE_KERNEL(void, diagonal_scan, const diagonal_scan::ForwardArgs& call, const Parallel& parallel);
// workspace: 2 D floats for each sequence where a is shared along time, else for each step where it is shared along the
// batch.
MAMBASDK_DECLARE_KERNEL(void, diagonal_scan_backward, const diagonal_scan::BackwardArgs& call, void* workspace,
                        const Parallel& parallel);

}  // namespace mambasdk
