// Definitions of ssd and its derivative: declarations, checks, and the way from a call to the kernels.
#include "ops/ssd/ssd_args.hpp"

#include "core/registry.hpp"
#include "ops/mixed_types.hpp"
#include "ops/sequences.hpp"
#include "ops/ssd/call.hpp"

namespace mambasdk {
namespace ssd {

void check_heads(std::string_view operation, std::int64_t heads, std::int64_t groups, const Tensor* D,
                 std::int64_t head_dim) {
  if (groups == 0 ? heads != 0 : heads % groups != 0) {
    fail(ErrorCode::invalid_argument, operation, ": x has ", heads, " heads and B has ", groups,
         " groups, expected a number of heads that is a multiple of the groups");
  }
  if (D != nullptr && D->size(1) != 1 && D->size(1) != head_dim) {
    fail(ErrorCode::invalid_argument, operation, ": D is ", D->shape_text(), ", expected (", heads,
         ", 1), one value per head, or (", heads, ", ", head_dim, "), one per channel");
  }
}

namespace {

constexpr Declaration kSsd =
    "ssd(x: T[B,L,H,P], dt: W[B,L,H], A: acc[H], B: T[B,L,G,N], C: T[B,L,G,N], D: acc[H,E]?, z: R[B,L,H,P]?, "
    "dt_bias: acc[H]?, initial_state: acc[S,H,P,N]?, cu_seqlens: i32[S+1]?, seq_idx: i32[B,L]?, "
    "dt_softplus: bool = false, dt_min: float = 0, dt_max: float = inf, dt_on_x: bool = true, "
    "reverse: bool = false, return_final_state: bool = false, save_chunk_states: bool = false) "
    "-> (y: T[B,L,H,P], final_state: acc[S,H,P,N] if return_final_state, "
    "chunk_states: saved[B*L//64+S,H,N,P] if save_chunk_states) where S = B if not cu_seqlens";
constexpr Declaration kBackward = kSsd.derivative({.saved = "chunk_states", .after = "seq_idx"});

Call call_of(const InputsOf<kSsd>& c) {
  Call call{};
  call.batch = c.dim<"B">();
  call.length = c.dim<"L">();
  call.heads = c.dim<"H">();
  call.head_dim = c.dim<"P">();
  call.groups = c.dim<"G">();
  call.state = c.dim<"N">();
  call.sequences = c.dim<"S">();
  call.x = c.tensor<"x">();
  call.dt = c.tensor<"dt">();
  call.A = c.tensor<"A">();
  call.B = c.tensor<"B">();
  call.C = c.tensor<"C">();
  call.D = c.tensor_or_null<"D">();
  call.z = c.tensor_or_null<"z">();
  call.dt_bias = c.tensor_or_null<"dt_bias">();
  call.initial_state = c.tensor_or_null<"initial_state">();
  call.cu_seqlens = c.tensor_or_null<"cu_seqlens">();
  call.seq_idx = c.tensor_or_null<"seq_idx">();
  call.has_D = c.has<"D">();
  call.has_z = c.has<"z">();
  call.has_dt_bias = c.has<"dt_bias">();
  call.has_initial_state = c.has<"initial_state">();
  call.dt_softplus = c.flag<"dt_softplus">();
  call.dt_min = c.number<"dt_min">();
  call.dt_max = c.number<"dt_max">();
  call.dt_on_x = c.flag<"dt_on_x">();
  call.reverse = c.flag<"reverse">();
  return call;
}

void check(const InputsOf<kSsd>& c) {
  check_heads(c.operation(), c.dim<"H">(), c.dim<"G">(), c.optional<"D">(), c.dim<"P">());
  const DType type = c.tensor<"x">().dtype;
  check_same_or_wider(c.named<"dt">(), type);
  check_same_or_wider(c.named<"z">(), type);
  if (c.has<"seq_idx">() && c.dim<"L">() > INT32_MAX) {
    fail(ErrorCode::invalid_argument, c.operation(), ": x has length ", c.dim<"L">(),
         ", expected less than 2^31 with seq_idx");
  }
  check_cu_seqlens_or_seq_idx(c.named<"cu_seqlens">(), c.named<"seq_idx">(), c.dim<"B">(), c.dim<"L">());
}

template <bool kReference>
void run_forward(const CallOf<kSsd>& c) {
  const Call call = call_of(c);
  const Tensor &y = c.output<"y">(), &final_state = c.output<"final_state">();
  const Tensor& chunk_states = c.output<"chunk_states">();
  if constexpr (kReference) {
    reference_forward(call, y, final_state, chunk_states);
  } else {
    vector_forward(c.context(), call, y, final_state, chunk_states);
  }
}

template <bool kReference>
void run_backward(const CallOf<kBackward>& c) {
  Call call = call_of(c.inputs_of<kSsd>());
  // Rows without steps and states have no gradient, however many they are.
  if (call.length == 0 && !c.has<"cu_seqlens">() && (!call.has_initial_state || call.initial_state.numel() == 0))
    call.batch = call.sequences = 0;
  const Gradients out{.x = c.output<"grad_x">(),
                      .dt = c.output<"grad_dt">(),
                      .A = c.output<"grad_A">(),
                      .B = c.output<"grad_B">(),
                      .C = c.output<"grad_C">(),
                      .D = c.output<"grad_D">(),
                      .z = c.output<"grad_z">(),
                      .dt_bias = c.output<"grad_dt_bias">(),
                      .initial_state = c.output<"grad_initial_state">()};
  const Tensor& grad_y = c.tensor<"grad_y">();
  const Tensor grad_final_state = c.tensor_or_null<"grad_final_state">();
  if constexpr (kReference) {
    reference_backward(call, grad_y, grad_final_state, out);
  } else {
    vector_backward(c.context(), call, grad_y, grad_final_state, c.tensor_or_null<"chunk_states">(), out);
  }
}

}  // namespace
}  // namespace ssd

void register_ssd(Registry& registry) {
  using namespace ssd;
  registry.define<kSsd>({
      .doc =
          "State-space duality, the scan of Mamba-2 (arXiv 2405.21060), computed in chunks by matrix products. Head h "
          "uses group h // (H/G) of B and C: delta = clamp(softplus(dt + dt_bias), dt_min, dt_max), S_t = "
          "exp(delta_t A) S_{t-1} + delta_t x_t B_t^T, y_t = S_t C_t + D x_t, times z * sigmoid(z) where z is given. "
          "Softplus only with `dt_softplus` (identity above 20); without `dt_on_x`, x is not multiplied by delta "
          "(discrete Mamba-2, arXiv 2408.10189). D is per head (E = 1) or per channel (E = P). The state starts from "
          "`initial_state`; it becomes zero where `seq_idx` changes. With `cu_seqlens` (batch 1) every sequence has "
          "its own states. `reverse` runs from the last step to the first; `initial_state` is then after the end. "
          "dt and z have the dtype of x, or are float32 beside a 16-bit x. "
          "chunk_states are the states before every 64 steps of every sequence, in scan order, for the derivative.",
      .check = [](const CallOf<kSsd>& c) { check(c); },
      .reference = run_forward<true>,
      .cpu = run_forward<false>,
  });
  registry.define<kBackward>({
      .doc = "Derivative of ssd. Without chunk_states, the states are computed again.",
      .check = [](const CallOf<kBackward>& c) { check(c.inputs_of<kSsd>()); },
      .reference = run_backward<true>,
      .cpu = run_backward<false>,
  });
  define_update(registry);
}

}  // namespace mambasdk
