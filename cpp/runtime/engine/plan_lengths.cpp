// What a plan does for states that grow: the rows that they hold differ from run to run, where all else stays.
#include <algorithm>
#include <bit>

#include "runtime/engine/nodes.hpp"
#include "runtime/engine/plan.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

namespace {

constexpr std::int64_t kLeastRoom = 64;

bool same_tensor(const Tensor& a, const Tensor& b) {
  return a.data == b.data && a.dtype == b.dtype && a.ndim == b.ndim && a.shape == b.shape && a.strides == b.strides;
}

}  // namespace

bool Plan::depends_on_length(const Node& node) const {
  const auto first = static_cast<std::int64_t>(program_.first_length);
  const auto names_one = [&](const Amount& a) {
    return std::any_of(a.expression.terms.begin(), a.expression.terms.end(), [&](const DimExpr::Term& term) {
      return term.kind == DimExpr::Kind::dim && term.value >= first;
    });
  };
  const auto is_one = [&](const Slot& slot) {
    return slot.kind == Slot::Kind::state && program_.states[static_cast<std::size_t>(slot.index)].is_growing();
  };
  return node.kind == Node::Kind::append || names_one(node.start) || names_one(node.length) ||
         std::any_of(node.shape.begin(), node.shape.end(), names_one) ||
         std::any_of(node.amounts.begin(), node.amounts.end(), names_one) ||
         std::any_of(node.inputs.begin(), node.inputs.end(), is_one);
}

Plan::Lengths Plan::lengths_of(std::span<const StateBuffers> states) const {
  Lengths lengths(program_.symbols.size() - program_.first_length);
  for (std::size_t l = 0; l < lengths.size(); ++l) {
    for (std::size_t i = 0; i < states.size(); ++i) {
      const StateSpec& spec = program_.states[i];
      if (!spec.is_growing() || spec.length_name() != program_.symbols[program_.first_length + l]) continue;
      lengths[l] = states[i].read.size(spec.grows);
    }
  }
  return lengths;
}

// Up to which lengths the next runs like this one can use the same memory.
Plan::Lengths Plan::lengths_to_come() const {
  Lengths room;
  for (std::size_t l = 0; l < lengths_.size(); ++l) {
    const auto next = std::bit_ceil(static_cast<std::uint64_t>(lengths_[l]) + 1);
    std::int64_t most = std::max(kLeastRoom, static_cast<std::int64_t>(next));
    for (std::size_t i = 0; i < program_.states.size(); ++i) {
      const StateSpec& spec = program_.states[i];
      if (!spec.is_growing() || spec.length_name() != program_.symbols[program_.first_length + l]) continue;
      most = std::min(most, spec.limit - appended_[i]);
    }
    room.push_back(std::max(most, lengths_[l]));
  }
  return room;
}

void Plan::set_lengths(const Lengths& lengths) {
  lengths_ = lengths;
  for (std::size_t l = 0; l < lengths.size(); ++l) {
    const std::string& name = program_.symbols[program_.first_length + l];
    extents_[program_.first_length + l] = symbols_[name] = lengths[l];
    for (std::size_t i = 0; i < program_.states.size(); ++i) {
      const StateSpec& spec = program_.states[i];
      if (spec.is_growing() && spec.length_name() == name) {
        state_read_[i] = growing_view(spec, state_read_[i], lengths[l]);
      }
    }
  }
}

void Plan::infer_append(Step& step) {
  const Node& node = *step.node;
  const auto index = static_cast<std::size_t>(node.outputs[0].index);
  const StateSpec& spec = program_.states[index];
  const Tensor& held = state_read_[index];
  const Tensor& in = *source(node.inputs[0]);
  bool fits = in.ndim == held.ndim && in.dtype == held.dtype;
  for (int d = 0; fits && d < in.ndim; ++d) fits = d == spec.grows || in.size(d) == held.size(d);
  if (!fits) {
    fail(ErrorCode::invalid_argument, "the rows for state ", printable(spec.name), " are ", dtype_name(in.dtype), " ",
         in.shape_text(), ", it holds ", dtype_name(held.dtype), " ", held.shape_text(), " and grows along dim ",
         spec.grows);
  }
  appended_[index] = in.size(spec.grows);
  state_written_[index] = true;
  step.rows = permute_view(in, memory_order(spec));
  Value rows;
  rows.tensor = &step.rows;
  step.inputs = {rows};
  Op::Plan planned = node.op->plan(step.inputs);
  step.dims = std::move(planned.dims);
  step.outputs = std::move(planned.outputs);
  step.work = operation_work(*node.op, step.inputs, step.outputs, step.dims);
  if (node.outputs[1].kind != Slot::Kind::value) return;
  const auto all = static_cast<std::size_t>(node.outputs[1].index);
  const Extent rows_after = Extent(held.size(spec.grows)) + appended_[index];
  values_[all] = growing_view(spec, held, rows_after.value());
  check_size(values_[all]);
  root_[all] = kState;
}

void Plan::check_appended() const {
  for (std::size_t i = 0; i < program_.states.size(); ++i) {
    if (!program_.states[i].is_growing()) continue;
    for (std::size_t j = 0; j < i; ++j) {
      const StateSpec &a = program_.states[j], &b = program_.states[i];
      if (!a.is_growing() || a.length_name() != b.length_name()) continue;
      if (appended_[i] == appended_[j]) break;  // and so as those before
      fail(ErrorCode::corrupt, "program.json: a run appends ", appended_[j], " rows to state ", printable(a.name),
           " and ", appended_[i], " to ", printable(b.name), "; both hold ", printable(a.length_name()), " rows");
    }
  }
}

bool Plan::place_with_room(std::span<const std::int32_t> outputs, const Limits& limits, const Place& place) {
  const Lengths now = lengths_, room = lengths_to_come();
  if (room == now) return false;
  try {
    set_lengths(room);
    infer_shapes();
    place_values(outputs, limits, place);
    bind_addresses();
    room_ = room;
    return follow_lengths(now);
  } catch (const Error&) {
    return false;  // the lengths of this run may do what longer ones may not
  }
}

bool Plan::follow(std::span<const StateBuffers> states) {
  return follow_lengths(lengths_of(states));
}

bool Plan::follow_lengths(const Lengths& lengths) {
  if (lengths == lengths_) return true;
  for (std::size_t l = 0; l < lengths.size(); ++l) {
    if (lengths[l] > room_[l]) return false;
  }
  set_lengths(lengths);
  std::vector<bool> changed(values_.size(), false);
  for (Step& step : steps_) {
    const bool touched =
        step.by_length || std::any_of(step.node->inputs.begin(), step.node->inputs.end(), [&](const Slot& slot) {
          return slot.kind == Slot::Kind::value && changed[static_cast<std::size_t>(slot.index)];
        });
    if (touched && !infer_again(step, changed)) return false;
  }
  check_appended();
  check_work();
  return true;
}

// One step of a plan that has its memory.
bool Plan::infer_again(Step& step, std::vector<bool>& changed) {
  const Node& node = *step.node;
  std::vector<Tensor> before;
  for (const Slot& slot : node.outputs) {
    before.push_back(slot.kind == Slot::Kind::value ? values_[static_cast<std::size_t>(slot.index)] : Tensor{});
  }
  infer(step);
  for (std::size_t o = 0; o < node.outputs.size(); ++o) {
    const Slot& slot = node.outputs[o];
    if (node.kind == Node::Kind::op && slot.kind != Slot::Kind::state && step.outputs[o].numel() != 0) {
      if (step.offsets[o] == kNowhere || aligned_bytes(step.outputs[o]) > step.room[o]) return false;
      step.outputs[o].data = arena_.memory.get() + step.offsets[o];
    }
    if (slot.kind != Slot::Kind::value) continue;
    Tensor& value = values_[static_cast<std::size_t>(slot.index)];
    if (node.kind == Node::Kind::op) value = step.outputs[o];
    changed[static_cast<std::size_t>(slot.index)] = !same_tensor(value, before[o]);
  }
  return true;
}

void Plan::append_rows(const Context& context, Step& step) {
  const Node& node = *step.node;
  const auto index = static_cast<std::size_t>(node.outputs[0].index);
  const StateSpec& spec = program_.states[index];
  const Tensor& all = state_write_[index];
  if (node.outputs[1].kind == Slot::Kind::value) values_[static_cast<std::size_t>(node.outputs[1].index)] = all;
  if (step.rows.numel() == 0) return;
  step.rows.data = source(node.inputs[0])->data;
  const std::int64_t row = all.stride(spec.grows) * element_bytes(all.dtype);
  step.outputs[0].data = all.ptr<std::byte>() + state_read_[index].size(spec.grows) * row;
  node.op->execute({node.op->signature, context, step.inputs, step.outputs, step.dims});
}

}  // namespace mambasdk::runtime
