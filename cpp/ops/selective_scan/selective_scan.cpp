#include "ops/selective_scan/selective_scan.hpp"

#include "core/registry.hpp"
#include "core/signature.hpp"
#include "ops/mirror.hpp"

namespace mambasdk {

ScanView scan_view(const Tensor* tensor) {
  static double nothing = 0.0;
  ScanView view;
  if (tensor == nullptr) return view;
  view.data = tensor->data != nullptr ? tensor->data : &nothing;
  for (int d = 0; d < tensor->ndim && d < 5; ++d) view.stride[d] = tensor->stride(d);
  return view;
}

ScanScratch scan_scratch(const Context& context) {
  return {const_cast<Context*>(&context),
          [](void* self, std::size_t bytes) -> void* {
            try {
              return static_cast<const Context*>(self)->allocate(bytes);
            } catch (...) {
              return nullptr;  // kernels must not throw; they report it
            }
          },
          [](void* self, void* data, std::size_t bytes) { static_cast<const Context*>(self)->release(data, bytes); }};
}

namespace {

void need_scratch(bool ok, const char* op) {
  if (!ok) fail(ErrorCode::out_of_memory, op, ": no memory for a thread's scratch");
}

void run_selective_scan(const Context& context, const SelectiveScanArgs& args) {
  const Context::Workspace work = context.workspace(MAMBASDK_PICK(selective_scan_workspace)(args));
  need_scratch(MAMBASDK_PICK(selective_scan_forward)(args, context.parallel(), scan_scratch(context), work.get()),
               "selective_scan");
}

// The inputs that forward and backward share, `first` being the index of u.
SelectiveScanArgs input_args(const OpCall& c, int first) {
  SelectiveScanArgs a{};
  a.batch = c.dim("B");
  a.length = c.dim("L");
  a.channels = c.dim("D");
  a.routes = c.dim("K");
  a.steps = c.dim("M");
  a.params = c.dim("P");
  a.groups = c.dim("G");
  a.states = c.dim("N");
  a.sequences = c.dim("S");
  a.type = c.tensor(first).dtype;
  ScanView* const views[] = {&a.u,          &a.delta,         &a.A,     &a.B,         &a.C, &a.D, &a.z,
                             &a.delta_bias, &a.initial_state, &a.order, &a.cu_seqlens};
  for (int i = 0; i < 11; ++i) *views[i] = scan_view(c.optional(first + i));
  return a;
}

ScanView output_view(const OpCall& c, int i) {
  return c.output(i).data != nullptr ? scan_view(&c.output(i)) : ScanView{};
}

// Views of a call, and the offsets of packed sequences where they are not the caller's.
struct Call {
  SelectiveScanArgs args{};
  SelectiveScanGrads grads{};
  std::vector<std::int32_t> offsets{};
};

void mirror(ScanView& view, int dim, std::int64_t size, std::int64_t bytes) {
  if (view.data == nullptr || size == 0) return;
  view.data = static_cast<std::byte*>(view.data) + (size - 1) * view.stride[dim] * bytes;
  view.stride[dim] = -view.stride[dim];
}

// The views of a call whose steps run from the last to the first: the kernels' first step is the call's last. Chunk
// states stay in the order in which the steps are taken. `cu_seqlens` is the index of that argument.
void mirror(const OpCall& c, int cu_seqlens, Call& call) {
  SelectiveScanArgs& a = call.args;
  SelectiveScanGrads& g = call.grads;
  const std::int64_t element = a.type.bits / 8, state = a.type == dtype::f64 ? 8 : 4;
  if (a.order.data != nullptr) {
    mirror(a.order, 1, a.steps, 4);
  } else {
    for (ScanView* v : {&a.u, &a.z, &a.y, &g.grad_y, &g.grad_u, &g.grad_z}) mirror(*v, 1, a.length, element);
  }
  if (a.order.data == nullptr || a.step_params) {
    for (ScanView* v : {&a.delta, &a.B, &a.C, &g.grad_delta, &g.grad_B, &g.grad_C}) mirror(*v, 2, a.params, element);
  }
  if (!c.has(cu_seqlens)) return;
  const Tensor offsets = mirrored_offsets(c.tensor(cu_seqlens), call.offsets);
  a.cu_seqlens = scan_view(&offsets);
  for (ScanView* v : {&a.initial_state, &a.final_state, &g.grad_final_state, &g.grad_initial_state}) {
    mirror(*v, 0, a.sequences, state);
  }
}

// u, delta, A, B, C, D, z, delta_bias, initial_state, order, cu_seqlens, delta_softplus, step_params,
// return_final_state, save_chunk_states, reverse -> y, final_state, chunk_states
Call forward_call(const OpCall& c) {
  Call call{input_args(c, 0)};
  SelectiveScanArgs& a = call.args;
  a.delta_softplus = c.flag(11);
  a.step_params = c.flag(12);
  a.y = output_view(c, 0);
  a.final_state = output_view(c, 1);
  a.chunk_states = output_view(c, 2);
  if (c.flag(15)) mirror(c, 10, call);
  return call;
}

// grad_y, grad_final_state, then the inputs, chunk_states, delta_softplus, step_params, reverse
Call backward_call(const OpCall& c) {
  Call call{input_args(c, 2)};
  call.args.chunk_states = scan_view(c.optional(13));
  call.args.delta_softplus = c.flag(14);
  call.args.step_params = c.flag(15);
  SelectiveScanGrads& g = call.grads;
  g.grad_y = scan_view(&c.tensor(0));
  g.grad_final_state = scan_view(c.optional(1));
  ScanView* const views[] = {&g.grad_u, &g.grad_delta,      &g.grad_A,
                             &g.grad_B, &g.grad_C,          &g.grad_D,
                             &g.grad_z, &g.grad_delta_bias, &g.grad_initial_state};
  for (int i = 0; i < 9; ++i) *views[i] = output_view(c, i);
  if (c.flag(16)) mirror(c, 12, call);
  return call;
}

void check_order(const OpCall& c, const Tensor& order) {
  const std::int64_t length = c.dim("L");
  for (std::int64_t k = 0; k < order.size(0); ++k) {
    const std::int32_t* row = order.ptr<const std::int32_t>() + k * order.stride(0);
    for (std::int64_t t = 0; t < order.size(1); ++t) {
      const std::int32_t position = row[t * order.stride(1)];
      if (position < 0 || position >= length) {
        fail(ErrorCode::invalid_argument, c.signature.name, ": order[", k, ", ", t, "] is ", position,
             ", expected a position in [0, ", length, "), the length of u");
      }
    }
  }
}

void check_sequences(const OpCall& c, const Tensor& offsets) {
  const std::string& name = c.signature.name;
  const std::int64_t steps = c.dim("M"), batch = c.dim("B"), sequences = c.dim("S");
  if (batch != 1) {
    fail(ErrorCode::invalid_argument, name, ": u has batch ", batch,
         ", expected 1 with cu_seqlens; pack the sequences along the length");
  }
  if (offsets.data == nullptr || offsets.device != Device::cpu) return;
  const auto offset = [&](std::int64_t i) {
    return std::int64_t{offsets.ptr<const std::int32_t>()[i * offsets.stride(0)]};
  };
  if (offset(0) != 0) fail(ErrorCode::invalid_argument, name, ": cu_seqlens[0] is ", offset(0), ", expected 0");
  for (std::int64_t s = 0; s < sequences; ++s) {
    if (offset(s + 1) < offset(s)) {
      fail(ErrorCode::invalid_argument, name, ": cu_seqlens[", s + 1, "] is ", offset(s + 1), ", expected at least ",
           offset(s), " as the one before it");
    }
  }
  if (offset(sequences) != steps) {
    fail(ErrorCode::invalid_argument, name, ": cu_seqlens ends with ", offset(sequences), ", expected ", steps,
         ", the number of steps");
  }
}

void check(const OpCall& c, int first, bool step_params) {
  const std::string& name = c.signature.name;
  const std::int64_t length = c.dim("L"), steps = c.dim("M"), params = c.dim("P");
  const std::int64_t channels = c.dim("D"), groups = c.dim("G");
  if (const std::int64_t expected = step_params ? steps : length; params != expected) {
    fail(ErrorCode::invalid_argument, name, ": delta, B and C have ", params, " rows (P), expected ", expected,
         step_params ? ", one per step, as step_params is set"
                     : ", one per position of u; set step_params for one per step");
  }
  if (groups == 0 ? channels != 0 : channels % groups != 0) {
    fail(ErrorCode::invalid_argument, name, ": B and C have ", groups, " groups, expected a divisor of ", channels,
         ", the channels of u");
  }
  const Tensor* order = c.optional(first + 9);
  if (order != nullptr && order->data != nullptr && order->device == Device::cpu) check_order(c, *order);
  if (const Tensor* offsets = c.optional(first + 10); offsets != nullptr) check_sequences(c, *offsets);
}

}  // namespace

void run_selective_scan_backward(const Context& context, const SelectiveScanArgs& args,
                                 const SelectiveScanGrads& grads) {
  SelectiveScanArgs a = args;
  Context::Workspace states;
  const std::int64_t chunks = (a.steps + kScanChunk - 1) / kScanChunk;
  if (a.chunk_states.data == nullptr && chunks > 1) {
    const std::int64_t shape[] = {a.batch, a.routes, chunks, a.channels, a.states};
    Tensor saved = Tensor::contiguous(nullptr, dtype::f32, shape, 5);
    states = context.workspace(static_cast<std::size_t>(saved.nbytes()));
    saved.data = states.get();
    a.chunk_states = scan_view(&saved);
    run_selective_scan(context, a);  // y and final_state are absent: states only
  }
  const Context::Workspace work = context.workspace(MAMBASDK_PICK(selective_scan_backward_workspace)(a, grads));
  need_scratch(MAMBASDK_PICK(selective_scan_backward)(a, grads, context.parallel(), scan_scratch(context), work.get()),
               "selective_scan_backward");
}

void register_selective_scan(Registry& registry) {
  registry.define({
      .signature = "selective_scan(u: T[B,L,D], delta: T[B,K,P,D], A: acc[K,D,N], B: T[B,K,P,G,N], C: T[B,K,P,G,N], "
                   "D: acc[K,D]?, z: T[B,L,D]?, delta_bias: acc[K,D]?, initial_state: acc[S,K,D,N]?, order: i32[K,M]?, "
                   "cu_seqlens: i32[S+1]?, delta_softplus: bool = false, step_params: bool = false, "
                   "return_final_state: bool = false, save_chunk_states: bool = false, reverse: bool = false) "
                   "-> (y: T[B,L,D], final_state: acc[S,K,D,N] if return_final_state, "
                   "chunk_states: acc[B,K,(M+127)//128,D,N] if save_chunk_states) "
                   "where M = L if not order, S = B if not cu_seqlens",
      .doc =
          "The scan of Mamba (arXiv 2312.00752, algorithm 2) along K routes: h_t = exp(delta_t A) h_{t-1} + delta_t "
          "B_t "
          "u_t, y_t = C_t h_t + D u_t. Step t of route k reads u at position order[k, t] (t itself without `order`) "
          "and "
          "adds its output there; a position that no route visits gives 0. delta, B and C are taken at the position, "
          "or "
          "at the step with `step_params`. delta_bias is added to delta in float32, then softplus (the identity above "
          "20) with `delta_softplus`. With z, y is multiplied by z * sigmoid(z) after the sum over routes. Channel d "
          "uses group d // (D/G) of B and C. With `cu_seqlens`, 0 = c_0 <= ... <= c_S = M, the batch is 1 and steps "
          "[c_s, c_{s+1}) are sequence s, from initial_state[s] to final_state[s]. chunk_states[:, :, q] is the state "
          "before step 128 q, ahead of a reset there, and zero for q = 0; the derivative starts from it. final_state "
          "may be the memory of initial_state. With `reverse` the steps are taken from the last to the first, those of "
          "each sequence by themselves: h_t = exp(delta_t A) h_{t+1} + delta_t B_t u_t; initial_state stands after the "
          "last step, final_state before the first, and chunk states count steps in the order taken.",
      .check = [](const OpCall& c) { check(c, 0, c.flag(12)); },
      .reference = [](const OpCall& c) { selective_scan_reference(forward_call(c).args); },
      .cpu = [](const OpCall& c) { run_selective_scan(c.context, forward_call(c).args); },
  });
  registry.define({
      .signature =
          "selective_scan_backward(grad_y: T[B,L,D], grad_final_state: acc[S,K,D,N]?, u: T[B,L,D], delta: T[B,K,P,D], "
          "A: acc[K,D,N], B: T[B,K,P,G,N], C: T[B,K,P,G,N], D: acc[K,D]?, z: T[B,L,D]?, delta_bias: acc[K,D]?, "
          "initial_state: acc[S,K,D,N]?, order: i32[K,M]?, cu_seqlens: i32[S+1]?, "
          "chunk_states: acc[B,K,(M+127)//128,D,N]?, delta_softplus: bool = false, step_params: bool = false, "
          "reverse: bool = false) "
          "-> (grad_u: T[B,L,D], grad_delta: T[B,K,P,D], grad_A: acc[K,D,N], grad_B: T[B,K,P,G,N], "
          "grad_C: T[B,K,P,G,N], grad_D: acc[K,D] if D, grad_z: T[B,L,D] if z, grad_delta_bias: acc[K,D] if "
          "delta_bias, "
          "grad_initial_state: acc[S,K,D,N] if initial_state) where M = L if not order, S = B if not cu_seqlens",
      .doc = "Derivative of selective_scan. States are recomputed from chunk_states, 128 steps at a time; without "
             "chunk_states these are computed first.",
      .check = [](const OpCall& c) { check(c, 2, c.flag(15)); },
      .reference =
          [](const OpCall& c) {
            const Call call = backward_call(c);
            selective_scan_backward_reference(call.args, call.grads);
          },
      .cpu =
          [](const OpCall& c) {
            const Call call = backward_call(c);
            run_selective_scan_backward(c.context, call.args, call.grads);
          },
  });
}

}  // namespace mambasdk
