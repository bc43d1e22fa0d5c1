// mlstm, the matrix memory of xLSTM (arXiv 2405.04517): argument structs of the kernels, and the registration.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "core/strided.hpp"

namespace mambasdk {

class Registry;
void register_mlstm(Registry& registry);

namespace mlstm {

inline constexpr double kEpsilon = 1e-6;  // beside the normaliser
// m before the first step in place of -infinity, which sums and products of states would turn into NaN: exp(m - x) is
// 0.
inline constexpr double kNoMaximum = -0x1.fffffep127;
inline constexpr std::int64_t kMostSteps = 1024;  // of a chunk

// One independent run of the recurrence.
struct Sequence {
  std::int64_t batch;
  std::int64_t begin;  // its first step
  std::int64_t length;
};

struct Problem {
  DType type{2, 32}, gate_type{2, 32}, state_type{2, 32};  // of q, k, v and h; of the gates; of C, n and m
  std::int64_t length = 0, heads = 0, head_dim = 0;        // L, H, E
  std::int64_t chunk = 0;                                  // steps computed together
  StridedView q, k, v;                                     // (B,L,H,E)
  StridedView igate, fgate;                                // (B,L,H)
  StridedView C, n, m;                                     // the initial state (S,H,E,E), (S,H,E), (S,H), or absent
  const Sequence* sequences = nullptr;                     // (S)
  std::int64_t sequence_count = 0, max_length = 0;
  bool is_packed = false;  // sequences by offsets; else each is a row of the batch
};

// Outputs are contiguous, or null where they are not wanted.
struct State {
  void *C = nullptr, *n = nullptr, *m = nullptr;  // (S,H,E,E), (S,H,E), (S,H)
};

struct Forward {
  Problem problem;
  void* h = nullptr;  // (B,L,H,E)
  State final;
};

struct Backward {
  Problem problem;
  StridedView grad_h;                             // (B,L,H,E)
  StridedView grad_C, grad_n, grad_m;             // of the final state, each may be absent
  void *q = nullptr, *k = nullptr, *v = nullptr;  // (B,L,H,E)
  void *igate = nullptr, *fgate = nullptr;        // (B,L,H)
  State initial;
};

// ---- scalar kernels: double accumulation, every dtype ----

void reference_forward(const Forward& call);
void reference_backward(const Backward& call);

}  // namespace mlstm

MAMBASDK_DECLARE_KERNEL(std::int64_t, mlstm_workspace_bytes, const mlstm::Forward& call);
MAMBASDK_DECLARE_KERNEL(void, mlstm_forward, const mlstm::Forward& call, void* workspace, const Parallel& parallel);
// One step of every sequence, from the initial state, which must be there, to the final one.
MAMBASDK_DECLARE_KERNEL(std::int64_t, mlstm_step_workspace_bytes, const mlstm::Forward& call);
MAMBASDK_DECLARE_KERNEL(void, mlstm_step, const mlstm::Forward& call, void* workspace, const Parallel& parallel);
MAMBASDK_DECLARE_KERNEL(std::int64_t, mlstm_backward_workspace_bytes, const mlstm::Backward& call);
MAMBASDK_DECLARE_KERNEL(void, mlstm_backward, const mlstm::Backward& call, void* workspace, const Parallel& parallel);

}  // namespace mambasdk
