// A call of causal_conv1d or of its update, as its kernels see it: where each sequence lies, and its two states.
#pragma once

#include <string_view>
#include <vector>

#include "core/op.hpp"

namespace mambasdk::causal_conv1d {

// Time steps [first, last) of batch row `batch` are one sequence, which starts from row `initial` of the initial
// states and leaves row `final` of the final ones; -1: from zeros, and leaves nothing.
struct Span {
  std::int64_t batch, first, last;
  std::int64_t initial, final;
};

// What seq_idx says: the runs of equal entries, without those of padding.
struct Runs {
  std::vector<Span> sequences;
  std::vector<Span> padding;
};
[[nodiscard]] Runs runs_of(const Tensor& seq_idx);

// One call in either of its forms: a whole sequence, or one step of the update.
struct Call {
  std::int64_t batch, length, channels, states;  // states: rows of the initial and final states
  int width;
  bool silu;
  const Tensor* x;  // (B, L, D), or (B, D) of the update
  const Tensor* weight;
  const Tensor* bias;
  const Tensor* initial_state;
  const Tensor* cu_seqlens;
  const Tensor* residual = nullptr;  // added to y
  const Runs* runs = nullptr;        // with seq_idx

  [[nodiscard]] std::int64_t sequences() const {
    return runs != nullptr ? static_cast<std::int64_t>(runs->sequences.size()) : states;
  }
};

[[nodiscard]] Span sequence_span(const Call& call, std::int64_t sequence);
// Zeros in the rows of y (B, L, D) that seq_idx calls padding.
void clear_padding(const Call& call, const Tensor& y);

// ---- kernels; the scalar ones are in reference.hpp ----

void vector_forward(const Context& context, const Call& call, const Tensor& y);
// grad_final_state may be null, an output with null data is not wanted.
void vector_backward(const Context& context, const Call& call, const Tensor& grad_y, const Tensor* grad_final_state,
                     const Tensor& grad_x, const Tensor& grad_weight, const Tensor& grad_bias,
                     const Tensor& grad_initial_state);
// The state after the last step, the same for every kernel; may be the memory of the initial state.
void copy_final_state(const Context& context, const Call& call, const Tensor& final_state);

// The width of the window is at least 1, and an int. Throws Error(invalid_argument).
void check_width(std::string_view operation, std::int64_t width);
void define_update(Registry& registry);

}  // namespace mambasdk::causal_conv1d
