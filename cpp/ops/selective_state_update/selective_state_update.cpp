#include "ops/selective_state_update/selective_state_update.hpp"

#include "core/registry.hpp"
#include "core/signature.hpp"
#include "ops/selective_scan/selective_scan.hpp"
#include "ops/selective_state_update/update_args.hpp"

namespace mambasdk {
namespace {

// The update as a scan of length 1 over views: state, x, delta, A, B, C, D, z, delta_bias from input `first` on.
SelectiveScanArgs as_scan(const OpCall& c, int first) {
  SelectiveScanArgs a{};
  a.batch = a.sequences = c.dim("B");
  a.channels = c.dim("D");
  a.groups = c.dim("G");
  a.states = c.dim("N");
  a.length = a.steps = a.params = a.routes = 1;
  a.type = c.tensor(first + 1).dtype;
  // A stride of 0 stands for each dim that the update does not have.
  const auto widen = [&](int i, int dims, std::initializer_list<int> from) {
    const ScanView v = scan_view(c.optional(first + i));
    ScanView wide{v.data, {}};
    for (int d = 0; d < dims; ++d) {
      const int source = *(from.begin() + d);
      wide.stride[d] = source >= 0 ? v.stride[source] : 0;
    }
    return wide;
  };
  a.initial_state = widen(0, 4, {0, -1, 1, 2});
  a.u = widen(1, 3, {0, -1, 1});
  a.delta = widen(2, 4, {0, -1, -1, 1});
  a.A = widen(3, 3, {-1, 0, 1});
  a.B = widen(4, 5, {0, -1, -1, 1, 2});
  a.C = widen(5, 5, {0, -1, -1, 1, 2});
  a.D = widen(6, 2, {-1, 0});
  a.z = widen(7, 3, {0, -1, 1});
  a.delta_bias = widen(8, 2, {-1, 0});
  return a;
}

ScanView widen_output(const Tensor& t, std::initializer_list<int> from) {
  if (t.data == nullptr) return {};
  ScanView wide{t.data, {}};
  int d = 0;
  for (const int source : from) wide.stride[d++] = source >= 0 ? t.stride(source) : 0;
  return wide;
}

SelectiveUpdateArgs update_args(const OpCall& c) {
  SelectiveUpdateArgs a{};
  a.batch = c.dim("B");
  a.channels = c.dim("D");
  a.groups = c.dim("G");
  a.states = c.dim("N");
  a.type = c.tensor(1).dtype;
  a.delta_softplus = c.flag(9);
  ScanView* const views[] = {&a.state, &a.x, &a.delta, &a.A, &a.B, &a.C, &a.D, &a.z, &a.delta_bias};
  for (int i = 0; i < 9; ++i) *views[i] = scan_view(c.optional(i));
  a.y = scan_view(&c.output(0));
  a.new_state = scan_view(&c.output(1));
  return a;
}

void reference(const OpCall& c) {
  SelectiveScanArgs a = as_scan(c, 0);
  a.delta_softplus = c.flag(9);
  a.y = widen_output(c.output(0), {0, -1, 1});
  a.final_state = widen_output(c.output(1), {0, -1, 1, 2});
  if (a.y.data != nullptr) selective_scan_reference(a);
}

template <bool kReference>
void backward(const OpCall& c) {  // grad_y, grad_new_state, then the update's inputs
  SelectiveScanArgs a = as_scan(c, 2);
  a.delta_softplus = c.flag(11);
  SelectiveScanGrads g{};
  g.grad_y = widen_output(c.tensor(0), {0, -1, 1});
  if (c.has(1)) g.grad_final_state = widen_output(c.tensor(1), {0, -1, 1, 2});
  g.grad_initial_state = widen_output(c.output(0), {0, -1, 1, 2});
  g.grad_u = widen_output(c.output(1), {0, -1, 1});
  g.grad_delta = widen_output(c.output(2), {0, -1, -1, 1});
  g.grad_A = widen_output(c.output(3), {-1, 0, 1});
  g.grad_B = widen_output(c.output(4), {0, -1, -1, 1, 2});
  g.grad_C = widen_output(c.output(5), {0, -1, -1, 1, 2});
  g.grad_D = widen_output(c.output(6), {-1, 0});
  g.grad_z = widen_output(c.output(7), {0, -1, 1});
  g.grad_delta_bias = widen_output(c.output(8), {-1, 0});
  if constexpr (kReference) {
    selective_scan_backward_reference(a, g);
  } else {
    run_selective_scan_backward(c.context, a, g);
  }
}

void check(const OpCall& c) {
  const std::int64_t channels = c.dim("D"), groups = c.dim("G");
  if (groups == 0 ? channels != 0 : channels % groups != 0) {
    fail(ErrorCode::invalid_argument, c.signature.name, ": B and C have ", groups, " groups, expected a divisor of ",
         channels, ", the channels of x");
  }
}

}  // namespace

void register_selective_state_update(Registry& registry) {
  registry.define({
      .signature =
          "selective_state_update(state: acc[B,D,N], x: T[B,D], delta: T[B,D], A: acc[D,N], B: T[B,G,N], C: T[B,G,N], "
          "D: acc[D]?, z: T[B,D]?, delta_bias: acc[D]?, delta_softplus: bool = false) "
          "-> (y: T[B,D], new_state: acc[B,D,N])",
      .doc = "One step of selective_scan: new_state = exp(delta A) state + delta B x, y = C new_state + D x, times "
             "z * sigmoid(z) where z is given; delta_bias and delta_softplus as there. Channel d uses group d // (D/G) "
             "of B and C. new_state may be the memory of state.",
      .check = check,
      .reference = reference,
      .cpu = [](const OpCall& c) { MAMBASDK_PICK(selective_state_update)(update_args(c), c.context.parallel()); },
  });
  registry.define({
      .signature =
          "selective_state_update_backward(grad_y: T[B,D], grad_new_state: acc[B,D,N]?, state: acc[B,D,N], x: T[B,D], "
          "delta: T[B,D], A: acc[D,N], B: T[B,G,N], C: T[B,G,N], D: acc[D]?, z: T[B,D]?, delta_bias: acc[D]?, "
          "delta_softplus: bool = false) "
          "-> (grad_state: acc[B,D,N], grad_x: T[B,D], grad_delta: T[B,D], grad_A: acc[D,N], grad_B: T[B,G,N], "
          "grad_C: T[B,G,N], grad_D: acc[D] if D, grad_z: T[B,D] if z, grad_delta_bias: acc[D] if delta_bias)",
      .doc = "Derivative of selective_state_update: that of a scan of length 1.",
      .check = check,
      .reference = backward<true>,
      .cpu = backward<false>,
  });
}

}  // namespace mambasdk
