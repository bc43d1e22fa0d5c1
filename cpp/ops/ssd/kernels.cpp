// From a Call to the argument structs of the vector kernels.
#include <cstring>

#include "core/extent.hpp"
#include "ops/ssd/call.hpp"

namespace mambasdk::ssd {
namespace {

// More than any kernel takes of workspace, in checked arithmetic: past 2^63 an Error(invalid_argument). The kernels'
// own sums, which are not checked, cannot overflow then.
void check_workspace(const Call& call, std::int64_t chunks) {
  const Extent state = Extent(call.state).rounded_up(64), heads = Extent(call.head_dim).rounded_up(64);
  const Extent steps = kSsdChunk, carry = state * heads, rows = Extent(call.sequences) * call.heads;
  const Extent group_chunks = Extent(chunks) * call.groups;
  const Extent shared = group_chunks * (Extent(call.heads) + 1) * (steps * steps + 3 * steps * state + 16);
  const Extent task = 12 * steps * heads + 6 * steps * steps + 8 * steps * state + 300 * carry;
  const Extent windows = (Extent(chunks) + 1) * carry;
  (void)(4 * (shared + 64 * (task + windows) + rows * (heads + 32) + Extent(call.batch) * call.length * heads));
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
    check_workspace(call, chunk_count(sequences));
    problem.dtype = call.x.dtype;
    problem.length = call.length;
    problem.heads = call.heads;
    problem.head_dim = call.head_dim;
    problem.groups = call.groups;
    problem.state = call.state;
    problem.x = strided_view(call.x);
    problem.dt = strided_view(call.dt);
    problem.B = strided_view(call.B);
    problem.C = strided_view(call.C);
    problem.z = strided_view(call.z);
    problem.initial_state = strided_view(call.initial_state);
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
    problem.wide_dt = call.dt.dtype == dtype::f32;
    problem.wide_z = call.has_z && call.z.dtype == dtype::f32;
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

// One step of every row from a state to a state: the update moves those alone, chunks would be nearly empty.
bool is_update(const Call& call, const Tensor& final_state, const Tensor& chunk_states) {
  return call.length == 1 && call.has_initial_state && final_state.data != nullptr && chunk_states.data == nullptr &&
         call.cu_seqlens.data == nullptr && call.seq_idx.data == nullptr;
}

}  // namespace

void vector_forward(const Context& context, const Call& call, const Tensor& y, const Tensor& final_state,
                    const Tensor& chunk_states) {
  if (is_empty(call)) return;
  if (is_update(call, final_state, chunk_states)) return vector_update(context, call, y, final_state, {});
  const Problem p(call);
  if (chunk_states.data != nullptr && chunk_states.numel() > 0) {  // rows that no chunk needs
    const std::int64_t used = chunk_count(p.sequences), row = chunk_states.stride(0) * chunk_states.dtype.bits / 8;
    std::memset(chunk_states.ptr<std::byte>() + used * row, 0,
                static_cast<std::size_t>((chunk_states.size(0) - used) * row));
  }
  const SsdForward args{p.problem, y.data, final_state.ptr<float>(), chunk_states.data, false};
  const auto workspace =
      context.workspace(static_cast<std::size_t>(MAMBASDK_PICK_PRODUCT(ssd_workspace_bytes, p.problem.dtype)(args)));
  MAMBASDK_PICK_PRODUCT(ssd, p.problem.dtype)(args, workspace.get(), context.parallel());
}

void vector_update(const Context& context, const Call& call, const Tensor& y, const Tensor& new_state,
                   const std::vector<std::int32_t>& slots) {
  if (is_empty(call)) return;
  const Problem p(call);
  const SsdUpdate args{p.problem, call.initial_state.dtype, slots.empty() ? nullptr : slots.data(), y.data,
                       new_state.data};
  MAMBASDK_PICK(ssd_state_update)(args, context.parallel());
}

void vector_backward(const Context& context, const Call& call, const Tensor& grad_y, const Tensor& grad_final_state,
                     const Tensor& chunk_states, const Gradients& out) {
  if (is_empty(call)) return reference_backward(call, grad_y, grad_final_state, out);  // only zeros to write
  const Problem p(call);
  Context::Workspace ungated(nullptr, {&context, 0});
  if (call.has_z) {  // y before the gate is computed again
    const Extent element = call.x.dtype == dtype::f16 ? 4 : call.x.dtype.bits / 8;
    ungated = context.workspace((Extent(out.x.numel()) * element).bytes());
    SsdForward args{p.problem, ungated.get(), nullptr, nullptr, true};
    args.problem.z.data = nullptr;
    const auto workspace =
        context.workspace(static_cast<std::size_t>(MAMBASDK_PICK_PRODUCT(ssd_workspace_bytes, p.problem.dtype)(args)));
    MAMBASDK_PICK_PRODUCT(ssd, p.problem.dtype)(args, workspace.get(), context.parallel());
  }
  const SsdBackward args{p.problem,
                         strided_view(grad_y),
                         strided_view(grad_final_state),
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

}  // namespace mambasdk::ssd
