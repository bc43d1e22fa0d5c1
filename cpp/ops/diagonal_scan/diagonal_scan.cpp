// Definitions of diagonal_scan and its derivative.
#include "ops/diagonal_scan/diagonal_scan.hpp"

#include "core/registry.hpp"
#include "ops/diagonal_scan/reference.hpp"

namespace mambasdk {
namespace diagonal_scan_family {
namespace {

Tensor optional(const OpCall& c, int i) {
  return c.has(i) ? c.tensor(i) : Tensor{};
}

template <int kA>  // index of argument a
void check_coefficients(const OpCall& c) {
  const Tensor& a = c.tensor(kA);
  const std::int64_t batch = c.dim("B"), length = c.dim("L");
  if ((a.size(0) != 1 && a.size(0) != batch) || (a.size(1) != 1 && a.size(1) != length)) {
    fail(ErrorCode::invalid_argument, c.signature.name, ": a is ", a.shape_text(), ", expected (", batch, " or 1, ",
         length, " or 1, ", c.dim("D"), "): 1 where a is the same along the batch or along time");
  }
}

// (batch, length, channel) strides; a state has no length.
ScanInput input_of(const Tensor& t) {
  if (t.data == nullptr) return {};
  if (t.ndim == 2) return {t.data, {t.stride(0), 0, t.stride(1)}};
  return {t.data, {t.stride(0), t.stride(1), t.stride(2)}};
}

ScanInput coefficients_of(const Tensor& a) {
  ScanInput in = input_of(a);
  for (int d = 0; d < 2; ++d)
    if (a.size(d) == 1) in.stride[d] = 0;
  return in;
}

void vector_forward(const OpCall& c) {  // b, a, initial_state, reverse, return_final_state
  MAMBASDK_PICK(diagonal_scan)
  ({c.tensor(0).dtype, c.dim("B"), c.dim("L"), c.dim("D"), c.flag(3), input_of(c.tensor(0)),
    coefficients_of(c.tensor(1)), input_of(optional(c, 2)), c.output(0).data, c.output(1).data},
   c.context.parallel());
}

void vector_backward(const OpCall& c) {  // grad_x, grad_final_state, a, x, initial_state, reverse
  const Tensor& a = c.tensor(2);
  const DiagonalScanBackward call{c.tensor(0).dtype,
                                  c.dim("B"),
                                  c.dim("L"),
                                  c.dim("D"),
                                  c.flag(5),
                                  input_of(c.tensor(0)),
                                  input_of(optional(c, 1)),
                                  coefficients_of(a),
                                  input_of(c.tensor(3)),
                                  input_of(optional(c, 4)),
                                  a.size(0) == 1 && c.dim("B") != 1,
                                  a.size(1) == 1 && c.dim("L") != 1,
                                  c.output(0).data,
                                  c.output(1).data,
                                  c.output(2).data};
  const auto workspace =
      c.context.workspace(static_cast<std::size_t>(MAMBASDK_PICK(diagonal_scan_backward_workspace_bytes)(call)));
  MAMBASDK_PICK(diagonal_scan_backward)(call, workspace.get(), c.context.parallel());
}

}  // namespace
}  // namespace diagonal_scan_family

void register_diagonal_scan(Registry& registry) {
  using namespace diagonal_scan_family;
  registry.define({
      .signature = "diagonal_scan(b: Z[B,L,D], a: Z[Ba,La,D], initial_state: Z[B,D]?, reverse: bool = false, "
                   "return_final_state: bool = false) -> (x: Z[B,L,D], final_state: Z[B,D] if return_final_state)",
      .doc =
          "The diagonal recurrence x_t = a_t x_{t-1} + b_t, real or complex, carried in float32: the base of S4D, S5, "
          "LRU and HGRN. a is given per step, or once for all steps (La = 1), per batch entry or once (Ba = 1). The "
          "state before the first step is `initial_state`, else zero. `reverse` runs from the last step to the "
          "first: x_t = a_t x_{t+1} + b_t; `final_state` is then x_0.",
      .check = check_coefficients<1>,
      .reference =
          [](const OpCall& c) {
            reference_forward(c.tensor(0), c.tensor(1), optional(c, 2), c.flag(3), c.output(0), c.output(1));
          },
      .cpu = vector_forward,
  });
  registry.define({
      .signature = "diagonal_scan_backward(grad_x: Z[B,L,D], grad_final_state: Z[B,D]?, a: Z[Ba,La,D], x: Z[B,L,D], "
                   "initial_state: Z[B,D]?, reverse: bool = false) "
                   "-> (grad_b: Z[B,L,D], grad_a: Z[Ba,La,D], grad_initial_state: Z[B,D] if initial_state)",
      .doc = "Derivative of diagonal_scan: g_t = grad_x_t + conj(a_{t+1}) g_{t+1}, grad_b = g, grad_a_t = g_t "
             "conj(x_{t-1}), summed over the dims that a repeats in.",
      .check = check_coefficients<2>,
      .reference =
          [](const OpCall& c) {
            reference_backward(c.tensor(0), optional(c, 1), c.tensor(2), c.tensor(3), optional(c, 4), c.flag(5),
                               c.output(0), c.output(1), c.output(2));
          },
      .cpu = vector_backward,
  });
}

}  // namespace mambasdk
