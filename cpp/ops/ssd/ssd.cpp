// Definitions of ssd, ssd_state_update and their derivatives: signatures, checks, and the way from a call to the
// kernels.
#include "ops/ssd/ssd.hpp"

#include <cstring>

#include "core/registry.hpp"
#include "ops/ssd/call.hpp"

namespace mambasdk {
namespace ssd_family {
namespace {

// The tensor with a dim of extent 1 put in at `dim`.
Tensor unsqueeze(const Tensor& t, int dim) {
  Tensor out = t;
  if (t.data == nullptr && t.ndim == 0) return out;
  for (int d = t.ndim; d > dim; --d) {
    out.shape[static_cast<std::size_t>(d)] = out.shape[static_cast<std::size_t>(d - 1)];
    out.strides[static_cast<std::size_t>(d)] = out.strides[static_cast<std::size_t>(d - 1)];
  }
  out.shape[static_cast<std::size_t>(dim)] = 1;
  out.strides[static_cast<std::size_t>(dim)] = 0;
  ++out.ndim;
  return out;
}

Tensor optional(const OpCall& c, int i) {
  return c.has(i) ? c.tensor(i) : Tensor{};
}

Call sizes(const OpCall& c) {
  Call call{};
  call.batch = c.dim("B");
  call.heads = c.dim("H");
  call.head_dim = c.dim("P");
  call.groups = c.dim("G");
  call.state = c.dim("N");
  return call;
}

// Inputs of ssd, beginning at argument `i`; scalars come `saved` arguments later.
Call sequence_call(const OpCall& c, int i, int saved) {
  Call call = sizes(c);
  call.length = c.dim("L");
  call.sequences = c.dim("S");
  call.x = c.tensor(i);
  call.dt = c.tensor(i + 1);
  call.A = c.tensor(i + 2);
  call.B = c.tensor(i + 3);
  call.C = c.tensor(i + 4);
  call.D = optional(c, i + 5);
  call.z = optional(c, i + 6);
  call.dt_bias = optional(c, i + 7);
  call.initial_state = optional(c, i + 8);
  call.cu_seqlens = optional(c, i + 9);
  call.seq_idx = optional(c, i + 10);
  call.has_D = c.has(i + 5);
  call.has_z = c.has(i + 6);
  call.has_dt_bias = c.has(i + 7);
  call.has_initial_state = c.has(i + 8);
  call.dt_softplus = c.flag(i + saved + 11);
  call.dt_min = c.real(i + saved + 12);
  call.dt_max = c.real(i + saved + 13);
  call.dt_on_x = c.flag(i + saved + 14);
  call.reverse = c.flag(i + saved + 15);
  return call;
}

// Inputs of ssd_state_update, beginning at argument `i`.
Call step_call(const OpCall& c, int i) {
  Call call = sizes(c);
  call.length = 1;
  call.sequences = call.batch;
  call.initial_state = c.tensor(i);
  call.x = unsqueeze(c.tensor(i + 1), 1);
  call.dt = unsqueeze(c.tensor(i + 2), 1);
  call.A = c.tensor(i + 3);
  call.B = unsqueeze(c.tensor(i + 4), 1);
  call.C = unsqueeze(c.tensor(i + 5), 1);
  call.D = optional(c, i + 6);
  call.z = unsqueeze(optional(c, i + 7), 1);
  call.dt_bias = optional(c, i + 8);
  call.has_initial_state = true;
  call.has_D = c.has(i + 6);
  call.has_z = c.has(i + 7);
  call.has_dt_bias = c.has(i + 8);
  call.dt_softplus = c.flag(i + 9);
  call.dt_min = c.real(i + 10);
  call.dt_max = c.real(i + 11);
  call.dt_on_x = c.flag(i + 12);
  return call;
}

// ---- checks ----

void check_groups(const OpCall& c, int skip) {
  const std::int64_t heads = c.dim("H"), groups = c.dim("G");
  if (groups == 0 ? heads != 0 : heads % groups != 0) {
    fail(ErrorCode::invalid_argument, c.signature.name, ": x has ", heads, " heads and B has ", groups,
         " groups, expected a number of heads that is a multiple of the groups");
  }
  if (c.has(skip) && c.tensor(skip).size(1) != 1 && c.tensor(skip).size(1) != c.dim("P")) {
    fail(ErrorCode::invalid_argument, c.signature.name, ": D is ", c.tensor(skip).shape_text(), ", expected (", heads,
         ", 1), one value per head, or (", heads, ", ", c.dim("P"), "), one per channel");
  }
}

void check_sequences(const OpCall& c, const Tensor* cu_seqlens, const Tensor* seq_idx) {
  if (cu_seqlens == nullptr) return;
  const std::string& name = c.signature.name;
  if (seq_idx != nullptr)
    fail(ErrorCode::invalid_argument, name, ": got both cu_seqlens and seq_idx, expected one of them");
  if (c.dim("B") != 1) {
    fail(ErrorCode::invalid_argument, name, ": x has batch ", c.dim("B"),
         ", expected 1 with cu_seqlens; pack the sequences along the length");
  }
  if (cu_seqlens->data == nullptr || cu_seqlens->device != Device::cpu) return;
  const auto* offsets = cu_seqlens->ptr<const std::int32_t>();
  const auto offset = [&](std::int64_t i) { return std::int64_t{offsets[i * cu_seqlens->stride(0)]}; };
  const std::int64_t sequences = c.dim("S");
  if (offset(0) != 0) fail(ErrorCode::invalid_argument, name, ": cu_seqlens[0] is ", offset(0), ", expected 0");
  for (std::int64_t i = 0; i < sequences; ++i) {
    if (offset(i + 1) < offset(i)) {
      fail(ErrorCode::invalid_argument, name, ": cu_seqlens[", i + 1, "] is ", offset(i + 1), ", expected at least ",
           offset(i), " as the one before it");
    }
  }
  if (offset(sequences) != c.dim("L")) {
    fail(ErrorCode::invalid_argument, name, ": cu_seqlens ends with ", offset(sequences), ", expected ", c.dim("L"),
         ", the length of x");
  }
}

template <int kFirst>
void check_sequence_call(const OpCall& c) {
  check_groups(c, kFirst + 5);
  check_sequences(c, c.optional(kFirst + 9), c.optional(kFirst + 10));
}

template <int kFirst>
void check_step_call(const OpCall& c) {
  check_groups(c, kFirst + 6);
}

// ---- vector kernels ----

SsdInput input_of(const Tensor& t, bool present = true) {
  SsdInput in{present ? t.data : nullptr, {}};
  for (int d = 0; d < t.ndim; ++d) in.stride[d] = t.stride(d);
  return in;
}

// An SsdProblem and the arrays it points to.
struct Problem {
  std::vector<float> A, D, dt_bias;
  std::vector<SsdSequence> sequences;
  std::vector<std::int32_t> run_starts;
  SsdProblem problem{};

  explicit Problem(const Call& call)
      : A(gather(call.A, true)),
        D(gather(call.D, call.has_D)),
        dt_bias(gather(call.dt_bias, call.has_dt_bias)),
        sequences(sequences_of(call)),
        run_starts(run_starts_of(call)) {
    problem.dtype = call.x.dtype;
    problem.length = call.length;
    problem.heads = call.heads;
    problem.head_dim = call.head_dim;
    problem.groups = call.groups;
    problem.state = call.state;
    problem.x = input_of(call.x);
    problem.dt = input_of(call.dt);
    problem.B = input_of(call.B);
    problem.C = input_of(call.C);
    problem.z = input_of(call.z, call.has_z);
    problem.initial_state = input_of(call.initial_state, call.has_initial_state);
    problem.A = A.data();
    problem.D = call.has_D ? D.data() : nullptr;
    problem.dt_bias = call.has_dt_bias ? dt_bias.data() : nullptr;
    problem.skip_width = call.has_D ? call.D.size(1) : 1;
    problem.sequences = sequences.data();
    problem.sequence_count = static_cast<std::int64_t>(sequences.size());
    for (const SsdSequence& s : sequences)
      if (s.length > problem.max_length) problem.max_length = s.length;
    problem.run_start = run_starts.empty() ? nullptr : run_starts.data();
    problem.dt_softplus = call.dt_softplus;
    problem.dt_on_x = call.dt_on_x;
    problem.reverse = call.reverse;
    problem.dt_min = static_cast<float>(call.dt_min);
    problem.dt_max = static_cast<float>(call.dt_max);
  }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  static std::vector<float> gather(const Tensor& t, bool present) {
    std::vector<float> values;
    if (!present) return values;
    const std::int64_t columns = t.ndim == 2 ? t.size(1) : 1;
    for (std::int64_t i = 0; i < t.size(0); ++i)
      for (std::int64_t j = 0; j < columns; ++j)
        values.push_back(t.ptr<const float>()[i * t.stride(0) + (t.ndim == 2 ? j * t.stride(1) : 0)]);
    return values;
  }
};

bool is_empty(const Call& call) {
  return call.sequences == 0 || call.heads == 0;
}

void vector_forward(const Context& context, const Call& call, const Tensor& y, const Tensor& final_state,
                    const Tensor& chunk_states) {
  if (is_empty(call)) return;
  const Problem p(call);
  if (chunk_states.data != nullptr) {  // rows that no chunk needs
    const std::int64_t used = chunk_count(p.sequences), row = chunk_states.stride(0) * chunk_states.dtype.bits / 8;
    std::memset(chunk_states.ptr<std::byte>() + used * row, 0,
                static_cast<std::size_t>((chunk_states.size(0) - used) * row));
  }
  const SsdForward args{p.problem, y.data, final_state.ptr<float>(), chunk_states.data};
  const auto workspace =
      context.workspace(static_cast<std::size_t>(MAMBASDK_PICK_PRODUCT(ssd_workspace_bytes, p.problem.dtype)(args)));
  MAMBASDK_PICK_PRODUCT(ssd, p.problem.dtype)(args, workspace.get(), context.parallel());
}

void vector_update(const Context& context, const Call& call, const Tensor& y, const Tensor& new_state) {
  if (is_empty(call)) return;
  const Problem p(call);
  MAMBASDK_PICK(ssd_state_update)({p.problem, y.data, new_state.ptr<float>(), nullptr}, context.parallel());
}

void vector_backward(const Context& context, const Call& call, const Tensor& grad_y, const Tensor& grad_final_state,
                     const Tensor& chunk_states, const Gradients& out) {
  if (is_empty(call)) return reference_backward(call, grad_y, grad_final_state, out);  // only zeros to write
  const Problem p(call);
  Context::Workspace ungated(nullptr, {&context, 0});
  if (call.has_z) {  // y before the gate is computed again
    ungated = context.workspace(static_cast<std::size_t>(out.x.nbytes()));
    SsdForward args{p.problem, ungated.get(), nullptr, nullptr};
    args.problem.z.data = nullptr;
    const auto workspace =
        context.workspace(static_cast<std::size_t>(MAMBASDK_PICK_PRODUCT(ssd_workspace_bytes, p.problem.dtype)(args)));
    MAMBASDK_PICK_PRODUCT(ssd, p.problem.dtype)(args, workspace.get(), context.parallel());
  }
  const SsdBackward args{p.problem,
                         input_of(grad_y),
                         input_of(grad_final_state),
                         chunk_states.is_contiguous() ? chunk_states.data : nullptr,
                         ungated.get(),
                         out.x.data,
                         out.dt.data,
                         out.A.ptr<float>(),
                         out.B.data,
                         out.C.data,
                         out.D.ptr<float>(),
                         out.z.data,
                         out.dt_bias.ptr<float>(),
                         out.initial_state.ptr<float>()};
  const auto workspace = context.workspace(
      static_cast<std::size_t>(MAMBASDK_PICK_PRODUCT(ssd_backward_workspace_bytes, p.problem.dtype)(args)));
  MAMBASDK_PICK_PRODUCT(ssd_backward, p.problem.dtype)(args, workspace.get(), context.parallel());
}

// ---- the four operations ----

template <bool kReference>
void run_forward(const OpCall& c) {
  const Call call = sequence_call(c, 0, 0);
  if constexpr (kReference) {
    reference_forward(call, c.output(0), c.output(1), c.output(2));
  } else {
    vector_forward(c.context, call, c.output(0), c.output(1), c.output(2));
  }
}

template <bool kReference>
void run_backward(const OpCall& c) {
  const Call call = sequence_call(c, 2, 1);
  const Gradients out{c.output(0), c.output(1), c.output(2), c.output(3), c.output(4),
                      c.output(5), c.output(6), c.output(7), c.output(8)};
  if constexpr (kReference) {
    reference_backward(call, c.tensor(0), optional(c, 1), out);
  } else {
    vector_backward(c.context, call, c.tensor(0), optional(c, 1), optional(c, 13), out);
  }
}

template <bool kReference>
void run_update(const OpCall& c) {
  const Call call = step_call(c, 0);
  const Tensor y = unsqueeze(c.output(0), 1);
  if constexpr (kReference) {
    reference_forward(call, y, c.output(1), Tensor{});
  } else {
    vector_update(c.context, call, y, c.output(1));
  }
}

template <bool kReference>
void run_update_backward(const OpCall& c) {
  const Call call = step_call(c, 2);
  // outputs: state, x, dt, A, B, C, D, z, dt_bias
  const Gradients out{unsqueeze(c.output(1), 1),
                      unsqueeze(c.output(2), 1),
                      c.output(3),
                      unsqueeze(c.output(4), 1),
                      unsqueeze(c.output(5), 1),
                      c.output(6),
                      unsqueeze(c.output(7), 1),
                      c.output(8),
                      c.output(0)};
  const Tensor grad_y = unsqueeze(c.tensor(0), 1);
  if constexpr (kReference) {
    reference_backward(call, grad_y, optional(c, 1), out);
  } else {
    vector_backward(c.context, call, grad_y, optional(c, 1), Tensor{}, out);
  }
}

}  // namespace
}  // namespace ssd_family

void register_ssd(Registry& registry) {
  using namespace ssd_family;
  registry.define({
      .signature =
          "ssd(x: T[B,L,H,P], dt: T[B,L,H], A: acc[H], B: T[B,L,G,N], C: T[B,L,G,N], D: acc[H,E]?, z: T[B,L,H,P]?, "
          "dt_bias: acc[H]?, initial_state: acc[S,H,P,N]?, cu_seqlens: i32[S+1]?, seq_idx: i32[B,L]?, "
          "dt_softplus: bool = false, dt_min: float = 0, dt_max: float = inf, dt_on_x: bool = true, "
          "reverse: bool = false, return_final_state: bool = false, save_chunk_states: bool = false) "
          "-> (y: T[B,L,H,P], final_state: acc[S,H,P,N] if return_final_state, "
          "chunk_states: T[B*L//64+S,H,N,P] if save_chunk_states) where S = B if not cu_seqlens",
      .doc =
          "State-space duality, the scan of Mamba-2 (arXiv 2405.21060), computed in chunks by matrix products. Head h "
          "uses group h // (H/G) of B and C: delta = clamp(softplus(dt + dt_bias), dt_min, dt_max), S_t = "
          "exp(delta_t A) S_{t-1} + delta_t x_t B_t^T, y_t = S_t C_t + D x_t, times z * sigmoid(z) where z is given. "
          "Softplus only with `dt_softplus` (identity above 20); without `dt_on_x`, x is not multiplied by delta "
          "(discrete Mamba-2, arXiv 2408.10189). D is per head (E = 1) or per channel (E = P). The state starts from "
          "`initial_state`; it becomes zero where `seq_idx` changes. With `cu_seqlens` (batch 1) every sequence has "
          "its own states. `reverse` runs from the last step to the first; `initial_state` is then after the end. "
          "chunk_states are the states before every 64 steps of every sequence, in scan order, for the derivative.",
      .check = check_sequence_call<0>,
      .reference = run_forward<true>,
      .cpu = run_forward<false>,
  });
  registry.define({
      .signature =
          "ssd_backward(grad_y: T[B,L,H,P], grad_final_state: acc[S,H,P,N]?, x: T[B,L,H,P], dt: T[B,L,H], A: acc[H], "
          "B: T[B,L,G,N], C: T[B,L,G,N], D: acc[H,E]?, z: T[B,L,H,P]?, dt_bias: acc[H]?, "
          "initial_state: acc[S,H,P,N]?, cu_seqlens: i32[S+1]?, seq_idx: i32[B,L]?, chunk_states: T[B*L//64+S,H,N,P]?, "
          "dt_softplus: bool = false, "
          "dt_min: float = 0, dt_max: float = inf, dt_on_x: bool = true, reverse: bool = false) "
          "-> (grad_x: T[B,L,H,P], grad_dt: T[B,L,H], grad_A: acc[H], grad_B: T[B,L,G,N], grad_C: T[B,L,G,N], "
          "grad_D: acc[H,E] if D, grad_z: T[B,L,H,P] if z, grad_dt_bias: acc[H] if dt_bias, "
          "grad_initial_state: acc[S,H,P,N] if initial_state) where S = B if not cu_seqlens",
      .doc = "Derivative of ssd. Without chunk_states, the states are computed again.",
      .check = check_sequence_call<2>,
      .reference = run_backward<true>,
      .cpu = run_backward<false>,
  });
  registry.define({
      .signature =
          "ssd_state_update(state: acc[B,H,P,N], x: T[B,H,P], dt: T[B,H], A: acc[H], B: T[B,G,N], C: T[B,G,N], "
          "D: acc[H,E]?, z: T[B,H,P]?, dt_bias: acc[H]?, dt_softplus: bool = false, dt_min: float = 0, "
          "dt_max: float = inf, dt_on_x: bool = true) -> (y: T[B,H,P], new_state: acc[B,H,P,N])",
      .doc = "One step of ssd for decoding. `new_state` may be the memory of `state`.",
      .check = check_step_call<0>,
      .reference = run_update<true>,
      .cpu = run_update<false>,
  });
  registry.define({
      .signature =
          "ssd_state_update_backward(grad_y: T[B,H,P], grad_new_state: acc[B,H,P,N]?, state: acc[B,H,P,N], "
          "x: T[B,H,P], dt: T[B,H], A: acc[H], B: T[B,G,N], C: T[B,G,N], D: acc[H,E]?, z: T[B,H,P]?, dt_bias: acc[H]?, "
          "dt_softplus: bool = false, dt_min: float = 0, dt_max: float = inf, dt_on_x: bool = true) "
          "-> (grad_state: acc[B,H,P,N], grad_x: T[B,H,P], grad_dt: T[B,H], grad_A: acc[H], grad_B: T[B,G,N], "
          "grad_C: T[B,G,N], grad_D: acc[H,E] if D, grad_z: T[B,H,P] if z, grad_dt_bias: acc[H] if dt_bias)",
      .doc = "Derivative of ssd_state_update.",
      .check = check_step_call<2>,
      .reference = run_update_backward<true>,
      .cpu = run_update_backward<false>,
  });
}

}  // namespace mambasdk
