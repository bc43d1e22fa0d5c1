#include "ops/norm/norm.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/registry.hpp"
#include "ops/norm/reference.hpp"

namespace mambasdk {
namespace norm {
namespace {

std::int64_t group_of(const OpCall& c, int index) {
  return c.integer(index) == 0 ? c.dim("D") : c.integer(index);
}

// x, weight, bias, residual, z, eps, group_size, norm_before_gate
template <bool kMean>
Call forward_call(const OpCall& c) {
  return {row_count(c.tensor(0)), c.dim("D"),    group_of(c, 6), c.real(5),     kMean,        c.flag(7),
          &c.tensor(0),           c.optional(1), c.optional(2),  c.optional(3), c.optional(4)};
}

// grad_y, grad_residual_out, x, weight, bias, residual_out, z, eps, group_size, norm_before_gate
template <bool kMean>
Call backward_call(const OpCall& c) {
  return {row_count(c.tensor(0)), c.dim("D"),    group_of(c, 8), c.real(7),     kMean,        c.flag(9),
          &c.tensor(2),           c.optional(3), c.optional(4),  c.optional(5), c.optional(6)};
}

void check(const OpCall& c, int eps_index) {
  const std::int64_t channels = c.dim("D"), group = c.integer(eps_index + 1);
  const double eps = c.real(eps_index);
  if (!std::isfinite(eps) || eps < 0.0) {
    fail(ErrorCode::invalid_argument, c.signature.name, ": eps is ", eps, ", expected a finite number of at least 0");
  }
  if (group < 0 || (group > 0 && channels % group != 0)) {
    fail(ErrorCode::invalid_argument, c.signature.name, ": group_size is ", group,
         ", expected a divisor of D = ", channels, ", or 0 for one group");
  }
}
void check_forward(const OpCall& c) {
  check(c, 5);
}
void check_backward(const OpCall& c) {
  check(c, 7);
  if (c.has(1) && !c.has(5)) {
    fail(ErrorCode::invalid_argument, c.signature.name, ": grad_residual_out is given without residual_out");
  }
}

// ---- the vector kernels ----

struct Scratch {
  std::vector<std::int64_t> offsets[5];  // of x, residual, z, grad_y, grad_residual_out
  Context::Workspace table;
  Context::Workspace rows;
};

Args args_of(const Context& context, const Call& call, bool backward, Scratch& scratch) {
  Args a;
  a.rows = call.rows;
  a.rows_per_task = std::max<std::int64_t>(16, (call.rows + kMaxTasks - 1) / kMaxTasks);
  a.channels = call.channels;
  a.group_size = std::max<std::int64_t>(1, call.group_size);
  a.eps = static_cast<float>(call.eps);
  a.subtract_mean = call.subtract_mean;
  a.norm_before_gate = call.norm_before_gate;
  a.z = rows_view(call.z, scratch.offsets[2]);
  std::vector<std::int64_t> none;
  a.weight = rows_view(call.weight, none);
  a.bias = rows_view(call.bias, none);
  const std::size_t row_bytes = static_cast<std::size_t>(padded(call.channels)) * sizeof(float);
  scratch.table = context.workspace(2 * row_bytes);
  scratch.rows =
      context.workspace(static_cast<std::size_t>(tasks(a) * (backward ? kBackwardRows : kForwardRows)) * row_bytes);
  a.table = reinterpret_cast<float*>(scratch.table.get());
  a.scratch = reinterpret_cast<float*>(scratch.rows.get());
  return a;
}

void vector_forward(const Context& context, const Call& call, const Tensor& y, const Tensor& residual_out) {
  Scratch scratch{{}, {nullptr, {}}, {nullptr, {}}};
  Args a = args_of(context, call, false, scratch);
  a.x = rows_view(call.x, scratch.offsets[0]);
  a.residual = rows_view(call.residual, scratch.offsets[1]);
  a.y = y.data;
  a.residual_out = residual_out.data;
  MAMBASDK_PICK(norm_forward)(a, context.parallel());
}

void vector_backward(const Context& context, const Call& call, const Gradients& g) {
  Scratch scratch{{}, {nullptr, {}}, {nullptr, {}}};
  BackwardArgs b;
  b.forward = args_of(context, call, true, scratch);
  b.forward.x = rows_view(call.residual != nullptr ? call.residual : call.x, scratch.offsets[0]);
  b.grad_y = rows_view(&g.grad_y, scratch.offsets[3]);
  b.grad_residual_out = rows_view(g.grad_residual_out, scratch.offsets[4]);
  b.grad_x = g.grad_x.data;
  b.grad_residual = g.grad_residual.data;
  b.grad_z = g.grad_z.data;
  b.grad_weight = g.grad_weight.data;
  b.grad_bias = g.grad_bias.data;
  b.weight_type = g.grad_weight.dtype;
  const Context::Workspace partial =
      context.workspace(static_cast<std::size_t>(tasks(b.forward) * 2 * padded(call.channels)) * sizeof(float));
  b.partial = reinterpret_cast<float*>(partial.get());
  MAMBASDK_PICK(norm_backward)(b, context.parallel());
}

template <bool kMean, bool kReference>
void run_forward(const OpCall& c) {
  const Call call = forward_call<kMean>(c);
  if constexpr (kReference) {
    reference_forward(call, c.output(0), c.output(1));
  } else {
    vector_forward(c.context, call, c.output(0), c.output(1));
  }
}

template <bool kMean, bool kReference>
void run_backward(const OpCall& c) {  // grad_x, grad_weight, grad_bias, grad_residual, grad_z
  const Call call = backward_call<kMean>(c);
  const Gradients gradients{c.tensor(0), c.optional(1), c.output(0), c.output(1),
                            c.output(2), c.output(3),   c.output(4)};
  if constexpr (kReference) {
    reference_backward(call, gradients);
  } else {
    vector_backward(c.context, call, gradients);
  }
}

template <bool kMean>
void define(Registry& registry, const std::string& name, std::string_view formula) {
  const std::string signature = name +
                                "(x: T[*,D], weight: W[D]?, bias: W[D]?, residual: R[*,D]?, z: T[*,D]?, "
                                "eps: float = 1e-5, group_size: int = 0, norm_before_gate: bool = true) "
                                "-> (y: T[*,D], residual_out: R[*,D] if residual)";
  const std::string doc =
      std::string(formula) +
      " over every `group_size` channels (0: all D), then times `weight` plus `bias`; statistics in float32. With "
      "`residual` the input is h = residual_out = x + residual, rounded to R. With `z`, norm(h) * silu(z), or "
      "norm(h * silu(z)) where not `norm_before_gate`.";
  registry.define({.signature = signature,
                   .doc = doc,
                   .check = check_forward,
                   .reference = run_forward<kMean, true>,
                   .cpu = run_forward<kMean, false>});
  const std::string backward = name +
                               "_backward(grad_y: T[*,D], grad_residual_out: R[*,D]?, x: T[*,D], weight: W[D]?, "
                               "bias: W[D]?, residual_out: R[*,D]?, z: T[*,D]?, eps: float = 1e-5, "
                               "group_size: int = 0, norm_before_gate: bool = true) "
                               "-> (grad_x: T[*,D], grad_weight: W[D] if weight, grad_bias: W[D] if bias, "
                               "grad_residual: R[*,D] if residual_out, grad_z: T[*,D] if z)";
  registry.define(
      {.signature = backward,
       .doc = "Derivative of " + name + "; the statistics are computed again. x is read only without residual_out.",
       .check = check_backward,
       .reference = run_backward<kMean, true>,
       .cpu = run_backward<kMean, false>});
}

}  // namespace
}  // namespace norm

void register_norm(Registry& registry) {
  norm::define<false>(registry, "rms_norm", "x / sqrt(mean(x^2) + eps) (arXiv 1910.07467)");
  norm::define<true>(registry, "layer_norm", "(x - mean) / sqrt(variance + eps) (arXiv 1607.06450)");
}

}  // namespace mambasdk
