// One call of the ssd family as tensors: what the reference and the vector kernels are made from.
#pragma once

#include <string_view>
#include <vector>

#include "core/op.hpp"
#include "ops/ssd/ssd_args.hpp"

namespace mambasdk::ssd {

// An absent tensor has data == nullptr. ssd_state_update is the case of one step: its tensors get a length of 1.
struct Call {
  Tensor x, dt, A, B, C, D, z, dt_bias, initial_state, cu_seqlens, seq_idx;
  bool has_initial_state, has_z, has_D, has_dt_bias;
  bool dt_softplus, dt_on_x, reverse;
  double dt_min, dt_max;
  std::int64_t batch, length, heads, head_dim, groups, state, sequences;
};

struct Gradients {
  Tensor x, dt, A, B, C, D, z, dt_bias, initial_state;  // outputs; null where not wanted
};

[[nodiscard]] std::vector<SsdSequence> sequences_of(const Call& call);
[[nodiscard]] std::int64_t chunk_count(const std::vector<SsdSequence>& sequences);
// (B,L) in scan order: the first step of the run of equal seq_idx that a step is in. Empty without seq_idx.
[[nodiscard]] std::vector<std::int32_t> run_starts_of(const Call& call);

// `final_state` and `chunk_states` may be null; rows of chunk_states that no chunk needs become zero.
void reference_forward(const Call& call, const Tensor& y, const Tensor& final_state, const Tensor& chunk_states);
// `grad_final_state` may be null. Computes the gradient of every input.
void reference_backward(const Call& call, const Tensor& grad_y, const Tensor& grad_final_state, const Gradients& out);

// ---- vector kernels ----

void vector_forward(const Context& context, const Call& call, const Tensor& y, const Tensor& final_state,
                    const Tensor& chunk_states);
void vector_backward(const Context& context, const Call& call, const Tensor& grad_y, const Tensor& grad_final_state,
                     const Tensor& chunk_states, const Gradients& out);
// One step; slots[b] is where the state of row b is, -1: nowhere; empty: at its own place.
void vector_update(const Context& context, const Call& call, const Tensor& y, const Tensor& new_state,
                   const std::vector<std::int32_t>& slots);

// Heads come in groups of equal size, and D is per head or per channel. Throws Error(invalid_argument).
void check_heads(std::string_view operation, std::int64_t heads, std::int64_t groups, const Tensor* D,
                 std::int64_t head_dim);
void define_update(Registry& registry);

}  // namespace mambasdk::ssd
