#include "ops/norm/norm.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/norm/reference.hpp"

namespace mambasdk {
namespace norm {
namespace {

constexpr std::string_view kArguments =
    "(x: T[*,D], weight: W[D]?, bias: W[D]?, residual: R[*,D]?, z: G[*,D]?, eps: float = 1e-5, group_size: int = 0, "
    "norm_before_gate: bool = true, sigmoid_gate: bool = false) -> (y: T[*,D], residual_out: R[*,D] if residual)";
// The derivative starts from what was normalised.
constexpr Reads kReads{.saved = "residual_out", .after = "bias", .unused = "residual"};
constexpr Declaration kRmsNorm{"rms_norm", kArguments}, kRmsNormBackward = kRmsNorm.derivative(kReads);
constexpr Declaration kLayerNorm{"layer_norm", kArguments}, kLayerNormBackward = kLayerNorm.derivative(kReads);
// Both norms have the same arguments: the names of one serve for the other.
using Inputs = InputsOf<kRmsNorm>;
using Forward = CallOf<kRmsNorm>;
using Backward = CallOf<kRmsNormBackward>;

Call call_of(const Inputs& c, bool subtract_mean, const Tensor* residual) {
  return {.rows = row_count(c.tensor<"x">()),
          .channels = c.dim<"D">(),
          .group_size = c.integer<"group_size">() == 0 ? c.dim<"D">() : c.integer<"group_size">(),
          .eps = c.number<"eps">(),
          .subtract_mean = subtract_mean,
          .norm_before_gate = c.flag<"norm_before_gate">(),
          .sigmoid_gate = c.flag<"sigmoid_gate">(),
          .x = c.optional<"x">(),
          .weight = c.optional<"weight">(),
          .bias = c.optional<"bias">(),
          .residual = residual,
          .z = c.optional<"z">()};
}

void check(const Inputs& c) {
  const std::int64_t channels = c.dim<"D">(), group = c.integer<"group_size">();
  const double eps = c.number<"eps">();
  if (!std::isfinite(eps) || eps < 0.0) {
    fail(ErrorCode::invalid_argument, c.operation(), ": eps is ", eps, ", expected a finite number of at least 0");
  }
  if (group < 0 || (group > 0 && channels % group != 0)) {
    fail(ErrorCode::invalid_argument, c.operation(), ": group_size is ", group,
         ", expected a divisor of D = ", channels, ", or 0 for one group");
  }
}
void check_backward(const Backward& c) {
  check(c.inputs_of<kRmsNorm>());
  if (c.has<"grad_residual_out">() && !c.has<"residual_out">()) {
    fail(ErrorCode::invalid_argument, c.operation(), ": grad_residual_out is given without residual_out");
  }
}

// ---- the vector kernels ----

struct Scratch {
  std::vector<std::int64_t> offsets[5];  // of x, residual, z, grad_y, grad_residual_out
  Context::Workspace table;
  Context::Workspace rows;
};

// x: what is normalised or gated.
Args args_of(const Context& context, const Call& call, const Tensor* x, bool backward, Scratch& scratch) {
  Args a;
  a.x = rows_view(x, scratch.offsets[0]);
  a.rows = call.rows;
  a.rows_per_task = std::max<std::int64_t>(16, (call.rows + kMaxTasks - 1) / kMaxTasks);
  if (!backward) a.rows_per_task = Extent(a.rows_per_task).rounded_up(kTurnedRows).value();
  a.channels = call.channels;
  a.group_size = std::max<std::int64_t>(1, call.group_size);
  a.eps = static_cast<float>(call.eps);
  a.subtract_mean = call.subtract_mean;
  a.norm_before_gate = call.norm_before_gate;
  a.sigmoid_gate = call.sigmoid_gate;
  a.z = rows_view(call.z, scratch.offsets[2]);
  std::vector<std::int64_t> none;
  a.weight = rows_view(call.weight, none);
  a.bias = rows_view(call.bias, none);
  const Extent row_bytes = Extent(call.channels).rounded_up(64) * sizeof(float);
  scratch.table = context.workspace((row_bytes * 2).bytes());
  scratch.rows = context.workspace((row_bytes * (backward ? kBackwardRows : scratch_rows(a)) * tasks(a)).bytes());
  a.table = reinterpret_cast<float*>(scratch.table.get());
  a.scratch = reinterpret_cast<float*>(scratch.rows.get());
  return a;
}

void vector_forward(const Context& context, const Call& call, const Tensor& y, const Tensor& residual_out) {
  Scratch scratch{{}, {nullptr, {}}, {nullptr, {}}};
  Args a = args_of(context, call, call.x, false, scratch);
  a.residual = rows_view(call.residual, scratch.offsets[1]);
  a.y = y.data;
  a.residual_out = residual_out.data;
  MAMBASDK_PICK(norm_forward)(a, context.parallel());
}

void vector_backward(const Context& context, const Call& call, const Gradients& g) {
  Scratch scratch{{}, {nullptr, {}}, {nullptr, {}}};
  BackwardArgs b;
  b.forward = args_of(context, call, call.residual != nullptr ? call.residual : call.x, true, scratch);
  b.grad_y = rows_view(&g.grad_y, scratch.offsets[3]);
  b.grad_residual_out = rows_view(g.grad_residual_out, scratch.offsets[4]);
  b.grad_x = g.grad_x.data;
  b.grad_residual = g.grad_residual.data;
  b.grad_z = g.grad_z.data;
  b.grad_weight = g.grad_weight.data;
  b.grad_bias = g.grad_bias.data;
  b.weight_type = g.grad_weight.dtype;
  const Context::Workspace partial =
      context.workspace((Extent(call.channels).rounded_up(64) * sizeof(float) * 2 * tasks(b.forward)).bytes());
  b.partial = reinterpret_cast<float*>(partial.get());
  MAMBASDK_PICK(norm_backward)(b, context.parallel());
}

template <bool kMean, bool kReference>
void run_forward(const OpCall& call) {
  const Forward c(call);
  const Call norm = call_of(c, kMean, c.optional<"residual">());
  if constexpr (kReference) {
    reference_forward(norm, c.output<"y">(), c.output<"residual_out">());
  } else {
    vector_forward(c.context(), norm, c.output<"y">(), c.output<"residual_out">());
  }
}

template <bool kMean, bool kReference>
void run_backward(const OpCall& call) {
  const Backward c(call);
  const Call norm = call_of(c.inputs_of<kRmsNorm>(), kMean, c.optional<"residual_out">());
  const Gradients gradients{.grad_y = c.tensor<"grad_y">(),
                            .grad_residual_out = c.optional<"grad_residual_out">(),
                            .grad_x = c.output<"grad_x">(),
                            .grad_weight = c.output<"grad_weight">(),
                            .grad_bias = c.output<"grad_bias">(),
                            .grad_residual = c.output<"grad_residual">(),
                            .grad_z = c.output<"grad_z">()};
  if constexpr (kReference) {
    reference_backward(norm, gradients);
  } else {
    vector_backward(c.context(), norm, gradients);
  }
}

template <const Declaration& kNorm, const Declaration& kDerivative, bool kMean>
void define(Registry& registry, std::string_view formula) {
  const std::string doc =
      std::string(formula) +
      " over every `group_size` channels (0: all D), then times `weight` plus `bias`; statistics in float32. With "
      "`residual` the input is h = residual_out = x + residual, rounded to R. With `z`, norm(h) * silu(z), or "
      "norm(h * silu(z)) where not `norm_before_gate`; sigmoid(z) instead of silu(z) with `sigmoid_gate`.";
  registry.define({.signature = DeclarationText<kNorm>::view,
                   .doc = doc,
                   .check = [](const OpCall& c) { check(Forward(c)); },
                   .reference = run_forward<kMean, true>,
                   .cpu = run_forward<kMean, false>});
  const std::string derivative = "Derivative of " + std::string(kNorm.name()) +
                                 "; the statistics are computed again. x is read only without residual_out.";
  registry.define({.signature = DeclarationText<kDerivative>::view,
                   .doc = derivative,
                   .check = [](const OpCall& c) { check_backward(Backward(c)); },
                   .reference = run_backward<kMean, true>,
                   .cpu = run_backward<kMean, false>});
}

}  // namespace
}  // namespace norm

void register_norm(Registry& registry) {
  using namespace norm;
  define<kRmsNorm, kRmsNormBackward, false>(registry, "x / sqrt(mean(x^2) + eps) (arXiv 1910.07467)");
  define<kLayerNorm, kLayerNormBackward, true>(registry, "(x - mean) / sqrt(variance + eps) (arXiv 1607.06450)");
}

}  // namespace mambasdk
