// rms_norm and layer_norm, with residual addition and a gate. Argument structs of the kernels.
#pragma once

#include <cstdint>

#include "ops/rows.hpp"

namespace mambasdk {

class Registry;
void register_norm(Registry& registry);

namespace norm {

inline constexpr std::int64_t kMaxTasks = 128;   // the weights' gradients have one part per task
inline constexpr std::int64_t kForwardRows = 3;  // rows of float scratch that a task needs
inline constexpr std::int64_t kBackwardRows = 6;
inline constexpr std::int64_t kTurnedRows = 16;  // more where x's elements are apart: a vector's lanes of rows, or more

struct Args {
  std::int64_t rows = 0;
  std::int64_t rows_per_task = 1;
  std::int64_t channels = 0;    // D
  std::int64_t group_size = 1;  // divides D
  float eps = 0.0f;
  bool subtract_mean = false;  // layer_norm
  bool norm_before_gate = true;
  bool sigmoid_gate = false;  // sigmoid(z) in place of z sigmoid(z)
  Rows x;
  Rows residual;
  Rows z;
  Rows weight;                   // one row
  Rows bias;                     // one row
  void* y = nullptr;             // (rows, D) of x.type
  void* residual_out = nullptr;  // (rows, D) of residual.type, null without a residual
  float* table = nullptr;        // scratch, (2, padded D): weight and bias in float32
  float* scratch = nullptr;      // (tasks, scratch_rows or kBackwardRows, padded D)
};

struct BackwardArgs {
  Args forward;  // x is what was normalised or gated: residual_out where there is a residual; no y, no residual
  Rows grad_y;
  Rows grad_residual_out;
  void* grad_x = nullptr;         // (rows, D) of grad_y.type
  void* grad_residual = nullptr;  // (rows, D) of forward.x.type, or null
  void* grad_z = nullptr;         // (rows, D) of z.type, or null
  DType weight_type{2, 32};
  void* grad_weight = nullptr;  // (D,) or null
  void* grad_bias = nullptr;    // (D,) or null
  float* partial = nullptr;     // scratch, (tasks, 2, padded D): parts of the gradients of weight and bias
};

MAMBASDK_ALWAYS_INLINE std::int64_t padded(std::int64_t channels) {
  return (channels + 63) / 64 * 64;
}
MAMBASDK_ALWAYS_INLINE std::int64_t scratch_rows(const Args& a) {
  return kForwardRows + (a.x.element_stride != 1 ? kTurnedRows : 0);
}
MAMBASDK_ALWAYS_INLINE std::int64_t tasks(const Args& a) {
  return (a.rows + a.rows_per_task - 1) / a.rows_per_task;
}

}  // namespace norm

MAMBASDK_DECLARE_KERNEL(void, norm_forward, const norm::Args&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, norm_backward, const norm::BackwardArgs&, const Parallel&);

}  // namespace mambasdk
