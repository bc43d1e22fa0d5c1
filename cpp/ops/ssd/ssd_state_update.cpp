// Definitions of ssd_state_update and its derivative: one step of ssd, whose states may stand in a pool.
#include "core/registry.hpp"
#include "ops/mixed_types.hpp"
#include "ops/ssd/call.hpp"
#include "ops/state_slots.hpp"

namespace mambasdk::ssd {
namespace {

constexpr Declaration kUpdate =
    "ssd_state_update(state: U[S,H,P,N], x: T[B,H,P], dt: W[B,H], A: acc[H], B: T[B,G,N], C: T[B,G,N], "
    "D: acc[H,E]?, z: R[B,H,P]?, dt_bias: acc[H]?, dt_softplus: bool = false, dt_min: float = 0, "
    "dt_max: float = inf, dt_on_x: bool = true, state_indices: i32[B]?, pad_slot_id: int = -1) "
    "-> (y: T[B,H,P], new_state: U[S,H,P,N]) where S = B if not state_indices";
constexpr Declaration kBackward = kUpdate.derivative();
using Inputs = InputsOf<kUpdate>;

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

// A step as a sequence of length 1. Where the states stand in a pool, see run_update.
Call call_of(const Inputs& c) {
  Call call{};
  call.batch = call.sequences = c.dim<"B">();
  call.length = 1;
  call.heads = c.dim<"H">();
  call.head_dim = c.dim<"P">();
  call.groups = c.dim<"G">();
  call.state = c.dim<"N">();
  call.initial_state = c.tensor<"state">();
  call.x = unsqueeze(c.tensor<"x">(), 1);
  call.dt = unsqueeze(c.tensor<"dt">(), 1);
  call.A = c.tensor<"A">();
  call.B = unsqueeze(c.tensor<"B">(), 1);
  call.C = unsqueeze(c.tensor<"C">(), 1);
  call.D = c.tensor_or_null<"D">();
  call.z = unsqueeze(c.tensor_or_null<"z">(), 1);
  call.dt_bias = c.tensor_or_null<"dt_bias">();
  call.has_initial_state = true;
  call.has_D = c.has<"D">();
  call.has_z = c.has<"z">();
  call.has_dt_bias = c.has<"dt_bias">();
  call.dt_softplus = c.flag<"dt_softplus">();
  call.dt_min = c.number<"dt_min">();
  call.dt_max = c.number<"dt_max">();
  call.dt_on_x = c.flag<"dt_on_x">();
  return call;
}

void check(const Inputs& c) {
  check_heads(c.operation(), c.dim<"H">(), c.dim<"G">(), c.optional<"D">(), c.dim<"P">());
  const DType type = c.tensor<"x">().dtype;
  check_state_type(c.named<"state">(), type);
  check_same_or_wider(c.named<"dt">(), type);
  check_same_or_wider(c.named<"z">(), type);
  check_state_indices(c.named<"state_indices">(), c.integer<"pad_slot_id">(), c.dim<"S">());
}

// The rows of a call that have a slot, as a call of its own: its states, and every input with a batch, copied.
struct Compact {
  StateSlots slots;
  std::vector<RowCopy> copies{};
  Call call;

  Compact(const Context& context, const Call& whole, const Tensor& indices, std::int64_t padding)
      : slots(state_slots(indices, padding)), call(whole) {
    call.batch = call.sequences = static_cast<std::int64_t>(slots.rows.size());
    take(context, call.initial_state, slots.slots);
    for (Tensor* t : {&call.x, &call.dt, &call.B, &call.C}) take(context, *t, slots.rows);
    if (call.has_z) take(context, call.z, slots.rows);
  }
  void take(const Context& context, Tensor& t, const std::vector<std::int64_t>& rows) {
    copies.push_back(take_rows(context, t, rows, t.dtype));
    t = copies.back().tensor;
  }
  // As many rows as the call has.
  Tensor like(const Context& context, const Tensor& t) {
    if (t.ndim == 0 || t.data == nullptr) return t;
    copies.push_back(empty_rows(context, t, call.batch, t.dtype));
    return copies.back().tensor;
  }
};

template <bool kReference>
void run_update(const CallOf<kUpdate>& c) {
  const Call call = call_of(c);
  const Tensor y = unsqueeze(c.output<"y">(), 1);
  const Tensor& new_state = c.output<"new_state">();
  if (!c.has<"state_indices">()) {
    if constexpr (kReference) return reference_forward(call, y, new_state, Tensor{});
    return vector_update(c.context(), call, y, new_state, {});
  }
  const Tensor& indices = c.tensor<"state_indices">();
  const std::int64_t padding = c.integer<"pad_slot_id">();
  copy_states(c.context(), new_state, call.initial_state);
  if constexpr (!kReference) {
    return vector_update(c.context(), call, y, new_state, state_slots(indices, padding).of_row);
  }
  Compact part(c.context(), call, indices, padding);
  const Tensor part_y = part.like(c.context(), y), part_state = part.like(c.context(), new_state);
  reference_forward(part.call, part_y, part_state, Tensor{});
  clear_rows(y);
  put_rows(y, part.slots.rows, part_y);
  put_rows(new_state, part.slots.slots, part_state);
}

template <bool kReference>
void update_backward(const Context& context, const Call& call, const Tensor& grad_y, const Tensor& grad_state,
                     const Gradients& out) {
  if constexpr (kReference) return reference_backward(call, grad_y, grad_state, out);
  if (call.initial_state.dtype == dtype::f32) return vector_backward(context, call, grad_y, grad_state, Tensor{}, out);
  // The kernel's states are float32.
  std::vector<std::int64_t> rows;
  for (std::int64_t b = 0; b < call.batch; ++b) rows.push_back(b);
  const RowCopy state = take_rows(context, call.initial_state, rows, dtype::f32);
  RowCopy grad_new = grad_state.data != nullptr ? take_rows(context, grad_state, rows, dtype::f32) : RowCopy{};
  const RowCopy grad = empty_rows(context, call.initial_state, call.batch, dtype::f32);
  Call wide = call;
  wide.initial_state = state.tensor;
  Gradients to = out;
  to.initial_state = grad.tensor;
  vector_backward(context, wide, grad_y, grad_new.tensor, Tensor{}, to);
  put_rows(out.initial_state, rows, grad.tensor);
}

template <bool kReference>
void run_update_backward(const CallOf<kBackward>& c) {
  const Call call = call_of(c.inputs_of<kUpdate>());
  const Gradients out{.x = unsqueeze(c.output<"grad_x">(), 1),
                      .dt = unsqueeze(c.output<"grad_dt">(), 1),
                      .A = c.output<"grad_A">(),
                      .B = unsqueeze(c.output<"grad_B">(), 1),
                      .C = unsqueeze(c.output<"grad_C">(), 1),
                      .D = c.output<"grad_D">(),
                      .z = unsqueeze(c.output<"grad_z">(), 1),
                      .dt_bias = c.output<"grad_dt_bias">(),
                      .initial_state = c.output<"grad_state">()};
  const Tensor grad_y = unsqueeze(c.tensor<"grad_y">(), 1), grad_new = c.tensor_or_null<"grad_new_state">();
  if (!c.has<"state_indices">()) return update_backward<kReference>(c.context(), call, grad_y, grad_new, out);
  Compact part(c.context(), call, c.tensor<"state_indices">(), c.integer<"pad_slot_id">());
  Tensor part_grad_y = grad_y, part_grad_new = grad_new;
  part.take(c.context(), part_grad_y, part.slots.rows);
  if (grad_new.data != nullptr) part.take(c.context(), part_grad_new, part.slots.slots);
  Gradients to = out;
  for (Tensor* t : {&to.x, &to.dt, &to.B, &to.C, &to.z, &to.initial_state}) *t = part.like(c.context(), *t);
  update_backward<kReference>(c.context(), part.call, part_grad_y, part_grad_new, to);
  const Tensor rows[][2] = {{out.x, to.x}, {out.dt, to.dt}, {out.B, to.B}, {out.C, to.C}, {out.z, to.z}};
  for (const auto& [whole, from] : rows) {
    if (whole.data == nullptr) continue;
    clear_rows(whole);
    put_rows(whole, part.slots.rows, from);
  }
  // What is in no row's slot passes through.
  if (grad_new.data != nullptr) {
    copy_states(c.context(), out.initial_state, grad_new);
  } else {
    clear_rows(out.initial_state);
  }
  put_rows(out.initial_state, part.slots.slots, to.initial_state);
}

}  // namespace

void define_update(Registry& registry) {
  registry.define<kUpdate>({
      .doc = "One step of ssd for decoding. The state is float32, bfloat16 or float16: the step is computed in float32 "
             "and rounded once. With `state_indices` the states stand in a pool of S slots: row b has the state in "
             "slot state_indices[b], each its own; a row with `pad_slot_id` has none, reads and writes nothing, and "
             "its y is 0. Slots of no row stay as they are. `new_state` may be the memory of `state`.",
      .check = [](const CallOf<kUpdate>& c) { check(c); },
      .reference = run_update<true>,
      .cpu = run_update<false>,
  });
  registry.define<kBackward>({
      .doc = "Derivative of ssd_state_update.",
      .check = [](const CallOf<kBackward>& c) { check(c.inputs_of<kUpdate>()); },
      .reference = run_update_backward<true>,
      .cpu = run_update_backward<false>,
  });
}

}  // namespace mambasdk::ssd
