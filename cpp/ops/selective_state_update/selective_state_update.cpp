#include "ops/selective_state_update/selective_state_update.hpp"

#include "core/registry.hpp"
#include "ops/mixed_types.hpp"
#include "ops/selective_scan/selective_scan.hpp"
#include "ops/selective_state_update/update_args.hpp"
#include "ops/state_slots.hpp"

namespace mambasdk {
namespace selective_state_update {
namespace {

using namespace selective_scan;  // whose one step this is

constexpr Declaration kUpdate =
    "selective_state_update(state: U[S,D,N], x: T[B,D], delta: W[B,D], A: acc[D,N], B: T[B,G,N], C: T[B,G,N], "
    "D: acc[D]?, z: R[B,D]?, delta_bias: acc[D]?, delta_softplus: bool = false, state_indices: i32[B]?, "
    "pad_slot_id: int = -1) -> (y: T[B,D], new_state: U[S,D,N]) where S = B if not state_indices";
constexpr Declaration kBackward = kUpdate.derivative();
using Inputs = InputsOf<kUpdate>;

// Where the dims of a scan of length 1 along one route stand in the update; -1: the update has no such dim.
constexpr std::initializer_list<int> kStateDims = {0, -1, 1, 2};      // [S,K,D,N] of (S,D,N)
constexpr std::initializer_list<int> kChannelDims = {0, -1, 1};       // [B,L,D] of (B,D)
constexpr std::initializer_list<int> kStepDims = {0, -1, -1, 1};      // [B,K,P,D] of (B,D)
constexpr std::initializer_list<int> kGroupDims = {0, -1, -1, 1, 2};  // [B,K,P,G,N] of (B,G,N)
constexpr std::initializer_list<int> kDecayDims = {-1, 0, 1};         // [K,D,N] of (D,N)
constexpr std::initializer_list<int> kBiasDims = {-1, 0};             // [K,D] of (D)

// The update as a scan of length 1 along one route, over views.
SelectiveScanArgs as_scan(const Inputs& c) {
  SelectiveScanArgs a{};
  a.batch = a.sequences = c.dim<"B">();
  a.channels = c.dim<"D">();
  a.groups = c.dim<"G">();
  a.states = c.dim<"N">();
  a.length = a.steps = a.params = a.routes = 1;
  a.type = c.tensor<"x">().dtype;
  a.delta_type = c.tensor<"delta">().dtype;
  a.z_type = c.has<"z">() ? c.tensor<"z">().dtype : a.type;
  a.delta_softplus = c.flag<"delta_softplus">();
  a.initial_state = with_dims(strided_view(c.optional<"state">()), kStateDims);
  a.u = with_dims(strided_view(c.optional<"x">()), kChannelDims);
  a.delta = with_dims(strided_view(c.optional<"delta">()), kStepDims);
  a.A = with_dims(strided_view(c.optional<"A">()), kDecayDims);
  a.B = with_dims(strided_view(c.optional<"B">()), kGroupDims);
  a.C = with_dims(strided_view(c.optional<"C">()), kGroupDims);
  a.D = with_dims(strided_view(c.optional<"D">()), kBiasDims);
  a.z = with_dims(strided_view(c.optional<"z">()), kChannelDims);
  a.delta_bias = with_dims(strided_view(c.optional<"delta_bias">()), kBiasDims);
  return a;
}

UpdateArgs update_args(const CallOf<kUpdate>& c) {
  UpdateArgs a{};
  a.batch = c.dim<"B">();
  a.channels = c.dim<"D">();
  a.groups = c.dim<"G">();
  a.states = c.dim<"N">();
  a.type = c.tensor<"x">().dtype;
  a.state_type = c.tensor<"state">().dtype;
  a.wide_delta = c.tensor<"delta">().dtype == dtype::f32;
  a.wide_z = c.has<"z">() && c.tensor<"z">().dtype == dtype::f32;
  a.delta_softplus = c.flag<"delta_softplus">();
  a.state = strided_view(c.optional<"state">());
  a.x = strided_view(c.optional<"x">());
  a.delta = strided_view(c.optional<"delta">());
  a.A = strided_view(c.optional<"A">());
  a.B = strided_view(c.optional<"B">());
  a.C = strided_view(c.optional<"C">());
  a.D = strided_view(c.optional<"D">());
  a.z = strided_view(c.optional<"z">());
  a.delta_bias = strided_view(c.optional<"delta_bias">());
  a.y = strided_view(c.output<"y">());
  a.new_state = strided_view(c.output<"new_state">());
  return a;
}

void run(const CallOf<kUpdate>& c) {
  UpdateArgs a = update_args(c);
  StateSlots slots;
  if (c.has<"state_indices">()) {
    copy_states(c.context(), c.output<"new_state">(), c.tensor<"state">());
    slots = state_slots(c.tensor<"state_indices">(), c.integer<"pad_slot_id">());
    a.slots = slots.of_row.data();
  }
  MAMBASDK_PICK(selective_state_update)(a, c.context().parallel());
}

// The update as a scan of length 1 over copies of the rows that have a slot, with states in the accumulator's dtype.
class RowsAsScan {
 public:
  SelectiveScanArgs args;
  StateSlots slots;

  explicit RowsAsScan(const Inputs& c) : args(as_scan(c)), context_(c.context()) {
    if (c.has<"state_indices">()) {
      slots = state_slots(c.tensor<"state_indices">(), c.integer<"pad_slot_id">());
    } else {
      for (std::int64_t b = 0; b < args.batch; ++b) slots.rows.push_back(b);
      slots.slots = slots.rows;
    }
    args.batch = args.sequences = static_cast<std::int64_t>(slots.rows.size());
    args.initial_state = take(c.tensor<"state">(), slots.slots, state_type(), kStateDims);
    args.u = take(c.tensor<"x">(), kChannelDims);
    args.delta = take(c.tensor<"delta">(), kStepDims);
    args.B = take(c.tensor<"B">(), kGroupDims);
    args.C = take(c.tensor<"C">(), kGroupDims);
    if (c.has<"z">()) args.z = take(c.tensor<"z">(), kChannelDims);
  }
  [[nodiscard]] DType state_type() const { return args.type == dtype::f64 ? dtype::f64 : dtype::f32; }

  StridedView take(const Tensor& t, std::initializer_list<int> dims) { return take(t, slots.rows, t.dtype, dims); }
  StridedView take(const Tensor& t, const std::vector<std::int64_t>& rows, DType type,
                   std::initializer_list<int> dims) {
    copies_.push_back(take_rows(context_, t, rows, type));
    return with_dims(strided_view(&copies_.back().tensor), dims);  // present even where there is no memory
  }
  // An output of the scan for what `to` has in `rows`, which finish() puts there.
  StridedView result(const Tensor& to, bool in_slots, std::initializer_list<int> dims) {
    if (to.data == nullptr) return {};
    copies_.push_back(empty_rows(context_, to, args.batch, in_slots ? state_type() : to.dtype));
    results_.push_back({to, copies_.back().tensor, in_slots});
    return with_dims(strided_view(&copies_.back().tensor), dims);
  }
  void finish() const {
    for (const Result& r : results_) {
      if (!r.in_slots) clear_rows(r.to);
      put_rows(r.to, r.in_slots ? slots.slots : slots.rows, r.from);
    }
  }

 private:
  struct Result {
    Tensor to, from;
    bool in_slots;
  };
  const Context& context_;
  std::vector<RowCopy> copies_;
  std::vector<Result> results_;
};

void reference(const CallOf<kUpdate>& c) {
  RowsAsScan rows(c);
  if (c.has<"state_indices">()) copy_states(c.context(), c.output<"new_state">(), c.tensor<"state">());
  rows.args.y = rows.result(c.output<"y">(), false, kChannelDims);
  rows.args.final_state = rows.result(c.output<"new_state">(), true, kStateDims);
  if (rows.args.y.data != nullptr) reference_forward(rows.args);
  rows.finish();
}

template <bool kReference>
void run_backward(const Context& context, const SelectiveScanArgs& a, const SelectiveScanGrads& g) {
  if constexpr (kReference) {
    reference_backward(a, g);
  } else {
    vector_backward(context, a, g);
  }
}

template <bool kReference>
void backward(const CallOf<kBackward>& c) {
  SelectiveScanGrads g{};
  g.grad_A = with_dims(strided_view(c.output<"grad_A">()), kDecayDims);
  g.grad_D = with_dims(strided_view(c.output<"grad_D">()), kBiasDims);
  g.grad_delta_bias = with_dims(strided_view(c.output<"grad_delta_bias">()), kBiasDims);
  if (!c.has<"state_indices">() && c.tensor<"state">().dtype.bits >= 32) {
    g.grad_y = with_dims(strided_view(c.tensor<"grad_y">()), kChannelDims);
    if (c.has<"grad_new_state">())
      g.grad_final_state = with_dims(strided_view(c.tensor<"grad_new_state">()), kStateDims);
    g.grad_initial_state = with_dims(strided_view(c.output<"grad_state">()), kStateDims);
    g.grad_u = with_dims(strided_view(c.output<"grad_x">()), kChannelDims);
    g.grad_delta = with_dims(strided_view(c.output<"grad_delta">()), kStepDims);
    g.grad_B = with_dims(strided_view(c.output<"grad_B">()), kGroupDims);
    g.grad_C = with_dims(strided_view(c.output<"grad_C">()), kGroupDims);
    g.grad_z = with_dims(strided_view(c.output<"grad_z">()), kChannelDims);
    return run_backward<kReference>(c.context(), as_scan(c.inputs_of<kUpdate>()), g);
  }
  RowsAsScan rows(c.inputs_of<kUpdate>());
  // What is in no row's slot passes through.
  if (c.has<"grad_new_state">()) {
    const Tensor& grad_new_state = c.tensor<"grad_new_state">();
    copy_states(c.context(), c.output<"grad_state">(), grad_new_state);
    g.grad_final_state = rows.take(grad_new_state, rows.slots.slots, rows.state_type(), kStateDims);
  } else {
    clear_rows(c.output<"grad_state">());
  }
  g.grad_y = rows.take(c.tensor<"grad_y">(), kChannelDims);
  g.grad_initial_state = rows.result(c.output<"grad_state">(), true, kStateDims);
  g.grad_u = rows.result(c.output<"grad_x">(), false, kChannelDims);
  g.grad_delta = rows.result(c.output<"grad_delta">(), false, kStepDims);
  g.grad_B = rows.result(c.output<"grad_B">(), false, kGroupDims);
  g.grad_C = rows.result(c.output<"grad_C">(), false, kGroupDims);
  g.grad_z = rows.result(c.output<"grad_z">(), false, kChannelDims);
  run_backward<kReference>(c.context(), rows.args, g);
  rows.finish();
}

void check(const Inputs& c) {
  check_groups(c.operation(), c.dim<"G">(), c.dim<"D">(), "x");
  const DType type = c.tensor<"x">().dtype;
  check_state_type(c.named<"state">(), type);
  check_same_or_wider(c.named<"delta">(), type);
  check_same_or_wider(c.named<"z">(), type);
  check_state_indices(c.named<"state_indices">(), c.integer<"pad_slot_id">(), c.dim<"S">());
}

}  // namespace
}  // namespace selective_state_update

void register_selective_state_update(Registry& registry) {
  using namespace selective_state_update;
  registry.define<kUpdate>({
      .doc = "One step of selective_scan: new_state = exp(delta A) state + delta B x, y = C new_state + D x, times "
             "z * sigmoid(z) where z is given; delta_bias and delta_softplus as there. Channel d uses group d // (D/G) "
             "of B and C. The state is float32, bfloat16 or float16: the step is computed in float32 and rounded once. "
             "With `state_indices` the states stand in a pool of S slots: row b has the state in slot "
             "state_indices[b], each its own; a row with `pad_slot_id` has none, reads and writes nothing, and its y "
             "is 0. Slots of no row stay as they are. new_state may be the memory of state.",
      .check = [](const CallOf<kUpdate>& c) { check(c); },
      .reference = reference,
      .cpu = run,
  });
  registry.define<kBackward>({
      .doc = "Derivative of selective_state_update: that of a scan of length 1.",
      .check = [](const CallOf<kBackward>& c) { check(c.inputs_of<kUpdate>()); },
      .reference = backward<true>,
      .cpu = backward<false>,
  });
}

}  // namespace mambasdk
