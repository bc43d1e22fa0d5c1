// Definitions of mlstm, of one step of it, and of their derivatives: declarations, checks, and the way from a call to
// the kernels.
#include <vector>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/mixed_types.hpp"
#include "ops/mlstm/mlstm_args.hpp"
#include "ops/sequences.hpp"

namespace mambasdk {
namespace mlstm {
namespace {

constexpr Declaration kMlstm =
    "mlstm(q: T[B,L,H,E], k: T[B,L,H,E], v: T[B,L,H,E], igate: W[B,L,H], fgate: W[B,L,H], initial_C: acc[S,H,E,E]?, "
    "initial_n: acc[S,H,E]?, initial_m: acc[S,H]?, cu_seqlens: i32[S+1]?, chunk: int = 64, "
    "return_final_state: bool = false) -> (h: T[B,L,H,E], final_C: acc[S,H,E,E] if return_final_state, "
    "final_n: acc[S,H,E] if return_final_state, final_m: acc[S,H] if return_final_state) where S = B if not cu_seqlens";
constexpr Declaration kBackward = kMlstm.derivative();

constexpr Declaration kUpdate =
    "mlstm_state_update(C: acc[B,H,E,E], n: acc[B,H,E], m: acc[B,H], q: T[B,H,E], k: T[B,H,E], v: T[B,H,E], "
    "igate: W[B,H], fgate: W[B,H]) -> (h: T[B,H,E], new_C: acc[B,H,E,E], new_n: acc[B,H,E], new_m: acc[B,H])";
constexpr Declaration kUpdateBackward = kUpdate.derivative();

DType state_type(DType type) {
  return type == dtype::f64 ? dtype::f64 : dtype::f32;
}

// The problem of a call and the sequences that it points to.
struct Call {
  std::vector<Sequence> sequences;
  Problem problem;

  explicit Call(const InputsOf<kMlstm>& c) {
    problem.type = c.tensor<"q">().dtype;
    problem.gate_type = c.tensor<"igate">().dtype;
    problem.state_type = state_type(problem.type);
    problem.length = c.dim<"L">();
    problem.heads = c.dim<"H">();
    problem.head_dim = c.dim<"E">();
    problem.chunk = c.integer<"chunk">();
    problem.q = strided_view(c.optional<"q">());
    problem.k = strided_view(c.optional<"k">());
    problem.v = strided_view(c.optional<"v">());
    problem.igate = strided_view(c.optional<"igate">());
    problem.fgate = strided_view(c.optional<"fgate">());
    problem.C = strided_view(c.optional<"initial_C">());
    problem.n = strided_view(c.optional<"initial_n">());
    problem.m = strided_view(c.optional<"initial_m">());
    problem.is_packed = c.has<"cu_seqlens">();
    if (problem.heads > 0) list_sequences(c);
    finish();
  }
  // One step of each row of the batch: a dim of length 1 stands behind the batch.
  explicit Call(const InputsOf<kUpdate>& c) {
    static constexpr std::initializer_list<int> kRow = {0, -1, 1, 2}, kGate = {0, -1, 1};
    problem.type = c.tensor<"q">().dtype;
    problem.gate_type = c.tensor<"igate">().dtype;
    problem.state_type = state_type(problem.type);
    problem.length = problem.chunk = 1;
    problem.heads = c.dim<"H">();
    problem.head_dim = c.dim<"E">();
    problem.q = with_dims(strided_view(c.optional<"q">()), kRow);
    problem.k = with_dims(strided_view(c.optional<"k">()), kRow);
    problem.v = with_dims(strided_view(c.optional<"v">()), kRow);
    problem.igate = with_dims(strided_view(c.optional<"igate">()), kGate);
    problem.fgate = with_dims(strided_view(c.optional<"fgate">()), kGate);
    problem.C = strided_view(c.optional<"C">());
    problem.n = strided_view(c.optional<"n">());
    problem.m = strided_view(c.optional<"m">());
    for (std::int64_t b = 0; problem.heads > 0 && b < c.dim<"B">(); ++b) sequences.push_back({b, 0, 1});
    finish();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  void list_sequences(const InputsOf<kMlstm>& c) {
    const Tensor* offsets = c.optional<"cu_seqlens">();
    for (std::int64_t s = 0; s < c.dim<"S">(); ++s) {
      if (offsets == nullptr) {
        sequences.push_back({s, 0, problem.length});
      } else {
        const std::int64_t begin = sequence_offset(*offsets, s);
        sequences.push_back({0, begin, sequence_offset(*offsets, s + 1) - begin});
      }
    }
  }
  void finish() {
    problem.sequences = sequences.data();
    problem.sequence_count = static_cast<std::int64_t>(sequences.size());
    for (const Sequence& s : sequences)
      if (s.length > problem.max_length) problem.max_length = s.length;
  }
};

// More than any kernel takes of workspace, in checked arithmetic: past 2^63 an Error(invalid_argument). The kernels'
// own sums, which are not checked, cannot overflow then.
void check_workspace(const Problem& p) {
  const Extent width = Extent(p.head_dim).rounded_up(64) + 64, steps = kMostSteps + 64;
  const Extent states = (Extent(p.max_length) + 4) * width * width;
  (void)(Extent(4) * 64 * (states + 16 * steps * width + 6 * steps * steps + 64 * steps));
}

template <bool kReference>
void forward(const Context& context, const Forward& call) {
  if constexpr (kReference) {
    reference_forward(call);
  } else {
    const Problem& p = call.problem;
    if (p.sequence_count == 0) return;
    check_workspace(p);
    if (p.length == 1 && !p.is_packed && p.m.data != nullptr && call.final.m != nullptr) {
      const auto workspace =
          context.workspace(static_cast<std::size_t>(MAMBASDK_PICK(mlstm_step_workspace_bytes)(call)));
      return MAMBASDK_PICK(mlstm_step)(call, workspace.get(), context.parallel());
    }
    const auto workspace = context.workspace(static_cast<std::size_t>(MAMBASDK_PICK(mlstm_workspace_bytes)(call)));
    MAMBASDK_PICK(mlstm_forward)(call, workspace.get(), context.parallel());
  }
}

template <bool kReference>
void backward(const Context& context, const Backward& call) {
  if constexpr (kReference) {
    reference_backward(call);
  } else {
    if (call.problem.sequence_count == 0) return;
    check_workspace(call.problem);
    const auto workspace =
        context.workspace(static_cast<std::size_t>(MAMBASDK_PICK(mlstm_backward_workspace_bytes)(call)));
    MAMBASDK_PICK(mlstm_backward)(call, workspace.get(), context.parallel());
  }
}

template <bool kReference>
void run_forward(const CallOf<kMlstm>& c) {
  const Call call(c);
  forward<kReference>(c.context(),
                      {.problem = call.problem,
                       .h = c.output<"h">().data,
                       .final = {c.output<"final_C">().data, c.output<"final_n">().data, c.output<"final_m">().data}});
}

template <bool kReference>
void run_backward(const CallOf<kBackward>& c) {
  const Call call(c.inputs_of<kMlstm>());
  backward<kReference>(c.context(), {.problem = call.problem,
                                     .grad_h = strided_view(c.optional<"grad_h">()),
                                     .grad_C = strided_view(c.optional<"grad_final_C">()),
                                     .grad_n = strided_view(c.optional<"grad_final_n">()),
                                     .grad_m = strided_view(c.optional<"grad_final_m">()),
                                     .q = c.output<"grad_q">().data,
                                     .k = c.output<"grad_k">().data,
                                     .v = c.output<"grad_v">().data,
                                     .igate = c.output<"grad_igate">().data,
                                     .fgate = c.output<"grad_fgate">().data,
                                     .initial = {c.output<"grad_initial_C">().data, c.output<"grad_initial_n">().data,
                                                 c.output<"grad_initial_m">().data}});
}

template <bool kReference>
void run_update(const CallOf<kUpdate>& c) {
  const Call call(c);
  forward<kReference>(c.context(),
                      {.problem = call.problem,
                       .h = c.output<"h">().data,
                       .final = {c.output<"new_C">().data, c.output<"new_n">().data, c.output<"new_m">().data}});
}

template <bool kReference>
void run_update_backward(const CallOf<kUpdateBackward>& c) {
  const Call call(c.inputs_of<kUpdate>());
  backward<kReference>(c.context(),
                       {.problem = call.problem,
                        .grad_h = with_dims(strided_view(c.optional<"grad_h">()), {0, -1, 1, 2}),
                        .grad_C = strided_view(c.optional<"grad_new_C">()),
                        .grad_n = strided_view(c.optional<"grad_new_n">()),
                        .grad_m = strided_view(c.optional<"grad_new_m">()),
                        .q = c.output<"grad_q">().data,
                        .k = c.output<"grad_k">().data,
                        .v = c.output<"grad_v">().data,
                        .igate = c.output<"grad_igate">().data,
                        .fgate = c.output<"grad_fgate">().data,
                        .initial = {c.output<"grad_C">().data, c.output<"grad_n">().data, c.output<"grad_m">().data}});
}

void check(const InputsOf<kMlstm>& c) {
  check_same_or_wider(c.named<"igate">(), c.tensor<"q">().dtype);
  if (c.has<"initial_C">() != c.has<"initial_n">() || c.has<"initial_C">() != c.has<"initial_m">()) {
    fail(ErrorCode::invalid_argument, c.operation(), ": of initial_C, initial_n and initial_m some are given, ",
         "expected all of them or none");
  }
  if (const std::int64_t chunk = c.integer<"chunk">(); chunk < 1 || chunk > kMostSteps)
    fail(ErrorCode::invalid_argument, c.operation(), ": chunk is ", chunk, ", expected 1 to ", kMostSteps);
  check_cu_seqlens(c.named<"cu_seqlens">(), "q", c.dim<"B">(), c.dim<"L">(), "the length of q");
}

void check_update(const InputsOf<kUpdate>& c) {
  check_same_or_wider(c.named<"igate">(), c.tensor<"q">().dtype);
}

}  // namespace
}  // namespace mlstm

void register_mlstm(Registry& registry) {
  using namespace mlstm;
  registry.define<kMlstm>({
      .doc =
          "The matrix memory of xLSTM (mLSTM, arXiv 2405.04517), computed in chunks by matrix products. With "
          "k' = k / sqrt(E), per head: m_t = max(logsigmoid(fgate_t) + m_{t-1}, igate_t), a = exp(logsigmoid(fgate_t) "
          "+ m_{t-1} - m_t), b = exp(igate_t - m_t), C_t = a C_{t-1} + b v_t k'_t^T, n_t = a n_{t-1} + b k'_t, h_t = "
          "C_t q_t / (max(|n_t q_t|, exp(-m_t)) + 1e-6). The state starts from the initial one, all three of it, or "
          "else from C = 0, n = 0 and the lowest float32 as m. With `cu_seqlens` (batch 1) every sequence has its own "
          "states. The gates "
          "have the dtype of q, or are float32 beside a 16-bit q. `chunk`, the steps that are computed together (1 to "
          "1024), changes nothing but time, memory and roundings. Memory is linear in L.",
      .check = [](const CallOf<kMlstm>& c) { check(c); },
      .reference = run_forward<true>,
      .cpu = run_forward<false>,
  });
  registry.define<kBackward>({
      .doc = "Derivative of mlstm; the states before the chunks are computed again. The maximum m has the derivative "
             "of the gate that it is; where |n q| = exp(-m), that of exp(-m) counts.",
      .check = [](const CallOf<kBackward>& c) { check(c.inputs_of<kMlstm>()); },
      .reference = run_backward<true>,
      .cpu = run_backward<false>,
  });
  registry.define<kUpdate>({
      .doc = "One step of mlstm: the state C, n, m becomes new_C, new_n, new_m, and h is read from it. A state of "
             "zeros begins a sequence too: m = 0 in place of -inf changes h by a factor within 1e-6 of 1. Outputs may "
             "be the memory of the state.",
      .check = [](const CallOf<kUpdate>& c) { check_update(c); },
      .reference = run_update<true>,
      .cpu = run_update<false>,
  });
  registry.define<kUpdateBackward>({
      .doc = "Derivative of mlstm_state_update.",
      .check = [](const CallOf<kUpdateBackward>& c) { check_update(c.inputs_of<kUpdate>()); },
      .reference = run_update_backward<true>,
      .cpu = run_update_backward<false>,
  });
}

}  // namespace mambasdk
