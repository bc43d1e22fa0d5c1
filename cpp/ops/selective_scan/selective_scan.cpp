#include "ops/selective_scan/selective_scan.hpp"

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/mixed_types.hpp"
#include "ops/selective_state_update/update_args.hpp"
#include "ops/sequences.hpp"

namespace mambasdk {
namespace selective_scan {

void check_groups(std::string_view operation, std::int64_t groups, std::int64_t channels, std::string_view of) {
  if (groups == 0 ? channels != 0 : channels % groups != 0) {
    fail(ErrorCode::invalid_argument, operation, ": B and C have ", groups, " groups, expected a divisor of ", channels,
         ", the channels of ", of);
  }
}

namespace {

// More than any kernel takes of workspace or scratch, in checked arithmetic: past 2^63 an Error(invalid_argument). The
// kernels' own sums, which are not checked, cannot overflow then.
void check_workspace(const SelectiveScanArgs& a) {
  constexpr std::int64_t kMostLanes = 16, kMostTaskBlocks = 8;
  const Extent channels = Extent(a.channels) + (Extent(a.groups) + 1) * kMostTaskBlocks * kMostLanes;
  const Extent rows = Extent(a.batch) * (Extent(a.length) + a.steps + a.params + 2 * kScanChunk);
  const Extent scratch = kMostTaskBlocks * kMostLanes * (Extent(a.states) + 1) * (Extent(a.routes) + 2) +
                         kScanChunk * (64 * kMostLanes + 4 * Extent(a.states));
  const Extent partial = rows * channels * 2 * (Extent(a.states) + 1);
  const Extent sums = (Extent(a.batch) + 64) * channels * kMostLanes * (Extent(a.states) + 4);
  (void)(8 * (scratch + 4 * partial + sums + rows * channels * 8 + rows * a.groups * a.states * 2));
}

// One step along one route from a state to a state, which has a kernel of its own.
bool is_update(const SelectiveScanArgs& a) {
  return a.length == 1 && a.steps == 1 && a.routes == 1 && a.y.data != nullptr && a.initial_state.data != nullptr &&
         a.final_state.data != nullptr && a.chunk_states.data == nullptr && a.order.data == nullptr &&
         a.cu_seqlens.data == nullptr;
}

void vector_update(const Context& context, const SelectiveScanArgs& a) {
  const selective_state_update::UpdateArgs step{.batch = a.batch,
                                                .channels = a.channels,
                                                .groups = a.groups,
                                                .states = a.states,
                                                .type = a.type,
                                                .state_type = dtype::f32,
                                                .delta_softplus = a.delta_softplus,
                                                .wide_delta = a.delta_type == dtype::f32,
                                                .wide_z = a.z_type == dtype::f32,
                                                .slots = nullptr,
                                                .state = with_dims(a.initial_state, {0, 2, 3}),
                                                .x = with_dims(a.u, {0, 2}),
                                                .delta = with_dims(a.delta, {0, 3}),
                                                .A = with_dims(a.A, {1, 2}),
                                                .B = with_dims(a.B, {0, 3, 4}),
                                                .C = with_dims(a.C, {0, 3, 4}),
                                                .D = with_dims(a.D, {1}),
                                                .z = with_dims(a.z, {0, 2}),
                                                .delta_bias = with_dims(a.delta_bias, {1}),
                                                .y = with_dims(a.y, {0, 2}),
                                                .new_state = with_dims(a.final_state, {0, 2, 3})};
  MAMBASDK_PICK(selective_state_update)(step, context.parallel());
}

void vector_forward(const Context& context, const SelectiveScanArgs& args) {
  if (is_update(args)) return vector_update(context, args);
  check_workspace(args);
  const Context::Workspace work = context.workspace(MAMBASDK_PICK(selective_scan_workspace)(args));
  need_scratch(MAMBASDK_PICK(selective_scan_forward)(args, context.parallel(), thread_scratch(context), work.get()),
               "selective_scan");
}

constexpr Declaration kScan =
    "selective_scan(u: T[B,L,D], delta: W[B,K,P,D], A: acc[K,D,N], B: T[B,K,P,G,N], C: T[B,K,P,G,N], "
    "D: acc[K,D]?, z: R[B,L,D]?, delta_bias: acc[K,D]?, initial_state: acc[S,K,D,N]?, order: i32[K,M]?, "
    "cu_seqlens: i32[S+1]?, delta_softplus: bool = false, step_params: bool = false, "
    "return_final_state: bool = false, save_chunk_states: bool = false, reverse: bool = false) "
    "-> (y: T[B,L,D], final_state: acc[S,K,D,N] if return_final_state, "
    "chunk_states: acc[B,K,(M+127)//128,D,N] if save_chunk_states) "
    "where M = L if not order, S = B if not cu_seqlens";
constexpr Declaration kBackward = kScan.derivative({.saved = "chunk_states", .after = "cu_seqlens"});

SelectiveScanArgs input_args(const InputsOf<kScan>& c) {
  SelectiveScanArgs a{};
  a.batch = c.dim<"B">();
  a.length = c.dim<"L">();
  a.channels = c.dim<"D">();
  a.routes = c.dim<"K">();
  a.steps = c.dim<"M">();
  a.params = c.dim<"P">();
  a.groups = c.dim<"G">();
  a.states = c.dim<"N">();
  a.sequences = c.dim<"S">();
  a.type = c.tensor<"u">().dtype;
  a.delta_type = c.tensor<"delta">().dtype;
  a.z_type = c.has<"z">() ? c.tensor<"z">().dtype : a.type;
  a.delta_softplus = c.flag<"delta_softplus">();
  a.step_params = c.flag<"step_params">();
  a.u = strided_view(c.optional<"u">());
  a.delta = strided_view(c.optional<"delta">());
  a.A = strided_view(c.optional<"A">());
  a.B = strided_view(c.optional<"B">());
  a.C = strided_view(c.optional<"C">());
  a.D = strided_view(c.optional<"D">());
  a.z = strided_view(c.optional<"z">());
  a.delta_bias = strided_view(c.optional<"delta_bias">());
  a.initial_state = strided_view(c.optional<"initial_state">());
  a.order = strided_view(c.optional<"order">());
  a.cu_seqlens = strided_view(c.optional<"cu_seqlens">());
  return a;
}

// Views of a call, and the offsets of packed sequences where they are not the caller's.
struct Call {
  SelectiveScanArgs args{};
  SelectiveScanGrads grads{};
  std::vector<std::int32_t> offsets{};
};

void mirror(StridedView& view, int dim, std::int64_t size, std::int64_t bytes) {
  if (view.data == nullptr || size == 0) return;
  view.data = static_cast<std::byte*>(view.data) + (size - 1) * view.stride[dim] * bytes;
  view.stride[dim] = -view.stride[dim];
}

// The views of a call whose steps run from the last to the first: the kernels' first step is the call's last. Chunk
// states stay in the order in which the steps are taken.
void mirror(const InputsOf<kScan>& c, Call& call) {
  SelectiveScanArgs& a = call.args;
  SelectiveScanGrads& g = call.grads;
  const std::int64_t element = a.type.bits / 8, state = a.type == dtype::f64 ? 8 : 4;
  if (a.order.data != nullptr) {
    mirror(a.order, 1, a.steps, 4);
  } else {
    for (StridedView* v : {&a.u, &a.y, &g.grad_y, &g.grad_u}) mirror(*v, 1, a.length, element);
    for (StridedView* v : {&a.z, &g.grad_z}) mirror(*v, 1, a.length, a.z_type.bits / 8);
  }
  if (a.order.data == nullptr || a.step_params) {
    for (StridedView* v : {&a.delta, &g.grad_delta}) mirror(*v, 2, a.params, a.delta_type.bits / 8);
    for (StridedView* v : {&a.B, &a.C, &g.grad_B, &g.grad_C}) mirror(*v, 2, a.params, element);
  }
  if (!c.has<"cu_seqlens">()) return;
  const Tensor offsets = mirrored_offsets(c.tensor<"cu_seqlens">(), call.offsets);
  a.cu_seqlens = strided_view(offsets);
  for (StridedView* v : {&a.initial_state, &a.final_state, &g.grad_final_state, &g.grad_initial_state}) {
    mirror(*v, 0, a.sequences, state);
  }
}

Call forward_call(const CallOf<kScan>& c) {
  Call call{input_args(c)};
  SelectiveScanArgs& a = call.args;
  a.y = strided_view(c.output<"y">());
  a.final_state = strided_view(c.output<"final_state">());
  a.chunk_states = strided_view(c.output<"chunk_states">());
  if (c.flag<"reverse">()) mirror(c, call);
  return call;
}

Call backward_call(const CallOf<kBackward>& c) {
  const InputsOf<kScan> inputs = c.inputs_of<kScan>();
  Call call{input_args(inputs)};
  call.args.chunk_states = strided_view(c.optional<"chunk_states">());
  SelectiveScanGrads& g = call.grads;
  g.grad_y = strided_view(c.optional<"grad_y">());
  g.grad_final_state = strided_view(c.optional<"grad_final_state">());
  g.grad_u = strided_view(c.output<"grad_u">());
  g.grad_delta = strided_view(c.output<"grad_delta">());
  g.grad_A = strided_view(c.output<"grad_A">());
  g.grad_B = strided_view(c.output<"grad_B">());
  g.grad_C = strided_view(c.output<"grad_C">());
  g.grad_D = strided_view(c.output<"grad_D">());
  g.grad_z = strided_view(c.output<"grad_z">());
  g.grad_delta_bias = strided_view(c.output<"grad_delta_bias">());
  g.grad_initial_state = strided_view(c.output<"grad_initial_state">());
  if (c.flag<"reverse">()) mirror(inputs, call);
  // Rows without steps and states have no gradient, however many they are.
  if (call.args.length == 0 && !c.has<"cu_seqlens">() &&
      (!c.has<"initial_state">() || c.tensor<"initial_state">().numel() == 0))
    call.args.batch = call.args.sequences = 0;
  return call;
}

void check_order(const InputsOf<kScan>& c) {
  const Tensor* order = c.optional<"order">();
  if (order == nullptr || order->data == nullptr || order->device != Device::cpu) return;
  const std::int64_t length = c.dim<"L">();
  for (std::int64_t k = 0; k < order->size(0); ++k) {
    const std::int32_t* row = order->ptr<const std::int32_t>() + k * order->stride(0);
    for (std::int64_t t = 0; t < order->size(1); ++t) {
      const std::int32_t position = row[t * order->stride(1)];
      if (position < 0 || position >= length) {
        fail(ErrorCode::invalid_argument, c.operation(), ": order[", k, ", ", t, "] is ", position,
             ", expected a position in [0, ", length, "), the length of u");
      }
    }
  }
}

void check(const InputsOf<kScan>& c) {
  const bool step_params = c.flag<"step_params">();
  const std::int64_t length = c.dim<"L">(), steps = c.dim<"M">(), params = c.dim<"P">();
  const std::int64_t channels = c.dim<"D">(), groups = c.dim<"G">();
  if (const std::int64_t expected = step_params ? steps : length; params != expected) {
    fail(ErrorCode::invalid_argument, c.operation(), ": delta, B and C have ", params, " rows (P), expected ", expected,
         step_params ? ", one per step, as step_params is set"
                     : ", one per position of u; set step_params for one per step");
  }
  check_groups(c.operation(), groups, channels, "u");
  check_same_or_wider(c.named<"delta">(), c.tensor<"u">().dtype);
  check_same_or_wider(c.named<"z">(), c.tensor<"u">().dtype);
  check_order(c);
  check_cu_seqlens(c.named<"cu_seqlens">(), "u", c.dim<"B">(), steps, "the number of steps");
}

}  // namespace

void vector_backward(const Context& context, const SelectiveScanArgs& args, const SelectiveScanGrads& grads) {
  SelectiveScanArgs a = args;
  check_workspace(a);
  Context::Workspace states;
  const std::int64_t chunks = (a.steps + kScanChunk - 1) / kScanChunk;
  if (a.chunk_states.data == nullptr && chunks > 1) {
    const std::int64_t shape[] = {a.batch, a.routes, chunks, a.channels, a.states};
    Tensor saved = Tensor::contiguous(nullptr, dtype::f32, shape, 5);
    states = context.workspace(Extent(saved.nbytes()).bytes());
    saved.data = states.get();
    a.chunk_states = strided_view(saved);
    vector_forward(context, a);  // y and final_state are absent: states only
  }
  const Context::Workspace work = context.workspace(MAMBASDK_PICK(selective_scan_backward_workspace)(a, grads));
  need_scratch(
      MAMBASDK_PICK(selective_scan_backward)(a, grads, context.parallel(), thread_scratch(context), work.get()),
      "selective_scan_backward");
}

}  // namespace selective_scan

void register_selective_scan(Registry& registry) {
  using namespace selective_scan;
  registry.define<kScan>({
      .doc =
          "The scan of Mamba (arXiv 2312.00752, algorithm 2) along K routes: h_t = exp(delta_t A) h_{t-1} + delta_t "
          "B_t "
          "u_t, y_t = C_t h_t + D u_t. Step t of route k reads u at position order[k, t] (t itself without `order`) "
          "and "
          "adds its output there; a position that no route visits gives 0. delta, B and C are taken at the position, "
          "or "
          "at the step with `step_params`. delta_bias is added to delta in float32, then softplus (the identity above "
          "20) with `delta_softplus`. With z, y is multiplied by z * sigmoid(z) after the sum over routes. delta and z "
          "have the dtype of u, or are float32 beside a 16-bit u. Channel d "
          "uses group d // (D/G) of B and C. With `cu_seqlens`, 0 = c_0 <= ... <= c_S = M, the batch is 1 and steps "
          "[c_s, c_{s+1}) are sequence s, from initial_state[s] to final_state[s]. chunk_states[:, :, q] is the state "
          "before step 128 q, ahead of a reset there, and zero for q = 0; the derivative starts from it. final_state "
          "may be the memory of initial_state. With `reverse` the steps are taken from the last to the first, those of "
          "each sequence by themselves: h_t = exp(delta_t A) h_{t+1} + delta_t B_t u_t; initial_state stands after the "
          "last step, final_state before the first, and chunk states count steps in the order taken.",
      .check = [](const CallOf<kScan>& c) { check(c); },
      .reference = [](const CallOf<kScan>& c) { reference_forward(forward_call(c).args); },
      .cpu = [](const CallOf<kScan>& c) { vector_forward(c.context(), forward_call(c).args); },
  });
  registry.define<kBackward>({
      .doc = "Derivative of selective_scan. States are recomputed from chunk_states, 128 steps at a time; without "
             "chunk_states these are computed first.",
      .check = [](const CallOf<kBackward>& c) { check(c.inputs_of<kScan>()); },
      .reference =
          [](const CallOf<kBackward>& c) {
            const Call call = backward_call(c);
            reference_backward(call.args, call.grads);
          },
      .cpu =
          [](const CallOf<kBackward>& c) {
            const Call call = backward_call(c);
            vector_backward(c.context(), call.args, call.grads);
          },
  });
}

}  // namespace mambasdk
