// The recurrence x_t = a_t x_{t-1} + b_t, channel by channel: plain argument structs and the registration.
#pragma once

#include <cstdint>

#include "core/isa.hpp"

namespace mambasdk {

class Registry;
void register_diagonal_scan(Registry& registry);

struct ScanInput {
  const void* data;        // null when absent
  std::int64_t stride[3];  // of (batch, length, channel); 0 where broadcast
};

// Step 0 is the last one in time when reversed. Outputs are contiguous.
struct DiagonalScan {
  DType dtype;  // f32, bf16, f16 or c64
  std::int64_t batch, length, channels;
  bool reverse;
  ScanInput b, a, initial_state;
  void* x;            // (B,L,D)
  void* final_state;  // (B,D) or null
};

struct DiagonalScanBackward {
  DType dtype;
  std::int64_t batch, length, channels;
  bool reverse;
  ScanInput grad_x, grad_final_state, a, x, initial_state;
  bool shared_batch, shared_length;  // a has extent 1 there: its gradient is a sum
  void* grad_b;                      // (B,L,D)
  void* grad_a;                      // (B or 1, L or 1, D)
  void* grad_initial_state;          // (B,D) or null
};

MAMBASDK_DECLARE_KERNEL(void, diagonal_scan, const DiagonalScan& call, const Parallel& parallel);
MAMBASDK_DECLARE_KERNEL(std::int64_t, diagonal_scan_backward_workspace_bytes, const DiagonalScanBackward& call);
MAMBASDK_DECLARE_KERNEL(void, diagonal_scan_backward, const DiagonalScanBackward& call, void* workspace,
                        const Parallel& parallel);

}  // namespace mambasdk
