#include "runtime/engine/plan.hpp"

#include <algorithm>

#include "runtime/engine/arena.hpp"
#include "runtime/engine/memory_limit.hpp"
#include "runtime/engine/nodes.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

namespace {

bool same_shape(const Tensor& a, const Tensor& b) {
  return a.ndim == b.ndim && std::equal(a.shape.begin(), a.shape.begin() + a.ndim, b.shape.begin());
}

// Equal but for extents of 1, so that dense tensors have their elements in the same places.
bool same_but_ones(const Tensor& a, const Tensor& b) {
  const auto extents = [](const Tensor& t) {
    std::vector<std::int64_t> kept;
    for (int d = 0; d < t.ndim; ++d) {
      if (t.size(d) != 1) kept.push_back(t.size(d));
    }
    return kept;
  };
  return extents(a) == extents(b);
}

// "tokens is i32 (1, 0)": what a program that does not fit was given.
std::string inputs_text(const std::vector<TensorSpec>& specs, std::span<const Tensor> inputs) {
  constexpr std::size_t kMostShown = 4;
  std::string text;
  for (std::size_t i = 0; i < std::min(specs.size(), kMostShown); ++i) {
    text += concat(i > 0 ? ", " : "", printable(specs[i].name), " is ", dtype_name(inputs[i].dtype), " ",
                   inputs[i].shape_text());
    const auto shape = inputs[i].shape.begin();
    if (std::find(shape, shape + inputs[i].ndim, 0) != shape + inputs[i].ndim) text += ", which is empty";
  }
  return text + (specs.size() > kMostShown ? ", …" : "");
}

}  // namespace

Extent Plan::aligned_bytes(const Tensor& t) {
  return dense_bytes(t).rounded_up(kAlignment);
}

std::int64_t Plan::amount(const Amount& a) const {
  if (a.is_fixed()) return a.number;
  const std::optional<std::int64_t> value = a.expression.evaluate(extents_);
  if (!value) {
    fail(ErrorCode::invalid_argument, printable(a.expression.text), " has no value: a division by 0, or past 2^63");
  }
  return *value;
}

Plan::Plan(const Program& program, std::span<const Tensor> weights, std::span<const Tensor> inputs,
           std::span<const StateBuffers> states, std::span<const std::int32_t> outputs, const Limits& limits,
           const Place& place)
    : program_(program),
      weights_(weights),
      outputs_(outputs.begin(), outputs.end()),
      appended_(states.size(), 0),
      most_work_(limits.work) {
  symbols_ = bind_symbols(program.inputs, inputs);
  for (std::size_t i = 0; i < program.first_length; ++i) extents_.push_back(symbols_.at(program.symbols[i]));
  extents_.resize(program.symbols.size());
  for (const Tensor& t : inputs) {
    inputs_.push_back(Tensor::contiguous(nullptr, t.dtype, t.shape.data(), t.ndim));
    inputs_.back().device = place.type();
    inputs_.back().device_index = place.index;
  }
  values_.resize(program.values.size());
  root_.assign(program.values.size(), -1);
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    values_[i] = inputs_[i];
    root_[i] = static_cast<std::int32_t>(i);
  }
  for (const StateBuffers& state : states) {
    state_read_.push_back(state.read);
    state_write_.push_back(state.write);
  }
  state_written_.assign(states.size(), false);
  select_nodes(outputs);
  const Lengths lengths = lengths_of(states);
  set_lengths(lengths);
  infer_shapes();
  check_work();
  if (!place_with_room(outputs, limits, place)) {
    set_lengths(lengths);
    infer_shapes();
    place_values(outputs, limits, place);
    bind_addresses();
    room_ = lengths;
  }
  start_profile();
}

void Plan::start_profile() {
  profile_ = Profile::wanted("nodes");
  if (profile_ == nullptr) return;
  for (const Step& step : steps_) {
    if (step.node->kind != Node::Kind::op) continue;
    profile_->add(*step.node, static_cast<std::size_t>(step.node - program_.nodes.data()), step.inputs, step.outputs);
  }
}

bool Plan::fits(std::span<const Tensor> inputs, std::span<const std::int32_t> outputs) const {
  if (!std::equal(outputs.begin(), outputs.end(), outputs_.begin(), outputs_.end())) return false;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (!same_shape(inputs[i], inputs_[i]) || !(inputs[i].dtype == inputs_[i].dtype)) return false;
  }
  return true;
}

// Backwards from the wanted outputs and every state.
void Plan::select_nodes(std::span<const std::int32_t> outputs) {
  std::vector<bool> wanted(program_.values.size(), false);
  for (const std::int32_t value : outputs) wanted[static_cast<std::size_t>(value)] = true;
  for (auto node = program_.nodes.rbegin(); node != program_.nodes.rend(); ++node) {
    bool needed = false;
    for (const Slot& slot : node->outputs) {
      needed = needed || slot.kind == Slot::Kind::state ||
               (slot.kind == Slot::Kind::value && wanted[static_cast<std::size_t>(slot.index)]);
    }
    if (!needed) continue;
    for (const Slot& slot : node->inputs) {
      if (slot.kind == Slot::Kind::value) wanted[static_cast<std::size_t>(slot.index)] = true;
    }
    steps_.push_back({.node = &*node, .by_length = depends_on_length(*node)});
  }
  std::reverse(steps_.begin(), steps_.end());
}

// Whether the inputs or the program are wrong cannot be told where extents come from the inputs.
void Plan::refuse_node(const Node& node, const Error& e) const {
  const bool free =
      !lengths_.empty() || std::any_of(program_.inputs.begin(), program_.inputs.end(), [](const TensorSpec& spec) {
        return std::any_of(spec.shape.begin(), spec.shape.end(), [](const Dimension& d) { return !d.symbol.empty(); });
      });
  const ErrorCode code = e.code() == ErrorCode::out_of_memory ? e.code()
                         : free                               ? ErrorCode::invalid_argument
                                                              : ErrorCode::corrupt;
  fail(code, "the model cannot run on these inputs: ", inputs_text(program_.inputs, inputs_), "; program.json, nodes[",
       &node - program_.nodes.data(), "] (", describe(node), "): ", e.what());
}

const Tensor* Plan::source(const Slot& slot) const {
  const auto i = static_cast<std::size_t>(slot.index);
  switch (slot.kind) {
    case Slot::Kind::value:
      return &values_[i];
    case Slot::Kind::weight:
      return &weights_[i];
    case Slot::Kind::state:
      return &state_read_[i];
    default:
      return nullptr;
  }
}

Tensor Plan::view(const Node& node) const {
  return view_of(node, *source(node.inputs[0]), [this](const Amount& a) { return amount(a); });
}

void Plan::infer_shapes() {
  for (Step& step : steps_) infer(step);
  check_appended();
}

void Plan::check_work() const {
  WorkBudget budget(most_work_);
  for (const Step& step : steps_) budget.spend(step.work, "the run");
}

void Plan::infer_view(Step& step) {
  const Node& node = *step.node;
  const auto out = static_cast<std::size_t>(node.outputs[0].index);
  const Slot& in = node.inputs[0];
  values_[out] = view(node);
  root_[out] = in.kind == Slot::Kind::value   ? root_[static_cast<std::size_t>(in.index)]
               : in.kind == Slot::Kind::state ? kState
                                              : kWeight;
  step.dynamic = root_[out] == kState;
}

void Plan::infer(Step& step) {
  const Node& node = *step.node;
  try {
    if (node.kind == Node::Kind::append) return infer_append(step);
    if (node.kind != Node::Kind::op) return infer_view(step);
    step.inputs.clear();
    for (const Slot& slot : node.inputs) {
      Value value = slot.scalar;
      if (slot.kind == Slot::Kind::amount) {
        value.integer = amount(node.amounts[static_cast<std::size_t>(slot.index)]);
      } else if (slot.kind != Slot::Kind::scalar) {
        value.tensor = source(slot);
      }
      step.inputs.push_back(value);
    }
    Op::Plan planned = node.op->plan(step.inputs);
    step.dims = std::move(planned.dims);
    step.outputs = std::move(planned.outputs);
    for (const Tensor& t : step.outputs) check_size(t);
    step.work = operation_work(*node.op, step.inputs, step.outputs, step.dims);
  } catch (const Error& e) {
    if (e.code() == ErrorCode::unsupported) throw;
    refuse_node(node, e);
  }
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    const Slot& slot = node.outputs[i];
    const auto index = static_cast<std::size_t>(slot.index);
    if (slot.kind == Slot::Kind::value) {
      values_[index] = step.outputs[i];
      root_[index] = slot.index;
    } else if (slot.kind == Slot::Kind::state) {
      const Tensor& state = state_write_[index];
      if (!same_but_ones(step.outputs[i], state) || !(step.outputs[i].dtype == state.dtype)) {
        fail(ErrorCode::corrupt, "program.json: ", describe(node), " makes state ", program_.states[index].name, " as ",
             dtype_name(step.outputs[i].dtype), " ", step.outputs[i].shape_text(), ", declared ",
             dtype_name(state.dtype), " ", state.shape_text());
      }
      state_written_[index] = true;
    }
  }
}

void Plan::place_values(std::span<const std::int32_t> outputs, const Limits& limits, const Place& place) {
  // Last step that reads each root; wanted outputs live on.
  std::vector<std::size_t> last(values_.size(), 0);
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    for (const Slot& slot : steps_[i].node->inputs) {
      if (slot.kind != Slot::Kind::value) continue;
      const std::int32_t root = root_[static_cast<std::size_t>(slot.index)];
      if (root >= 0) last[static_cast<std::size_t>(root)] = i;
    }
  }
  for (const std::int32_t value : outputs) {
    const std::int32_t root = root_[static_cast<std::size_t>(value)];
    if (root >= 0) last[static_cast<std::size_t>(root)] = steps_.size();
  }

  OffsetAllocator arena;
  std::vector<Extent> offset_of(values_.size(), kNowhere);
  for (std::size_t i = 0; i < inputs_.size(); ++i) offset_of[i] = arena.take(aligned_bytes(inputs_[i]));
  std::vector<std::vector<std::size_t>> dying(steps_.size() + 1);
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    Step& step = steps_[i];
    step.offsets.assign(step.outputs.size(), kNowhere);
    step.room.assign(step.outputs.size(), 0);
    if (step.node->kind != Node::Kind::op) continue;
    std::vector<std::size_t> dropped;
    for (std::size_t o = 0; o < step.outputs.size(); ++o) {
      const Slot& slot = step.node->outputs[o];
      if (slot.kind == Slot::Kind::state || step.outputs[o].numel() == 0) continue;
      const Extent offset = arena.take(aligned_bytes(step.outputs[o]));
      step.offsets[o] = offset.value();
      step.room[o] = aligned_bytes(step.outputs[o]);
      if (slot.kind == Slot::Kind::value) {
        const auto value = static_cast<std::size_t>(slot.index);
        offset_of[value] = offset;
        dying[std::max(last[value], i)].push_back(value);
      } else {
        dropped.push_back(o);
      }
    }
    for (const std::size_t o : dropped) arena.give(step.offsets[o], aligned_bytes(step.outputs[o]));
    for (const std::size_t value : dying[i]) arena.give(offset_of[value], aligned_bytes(values_[value]));
  }
  memory_ = arena.end();
  for (const std::int32_t value : outputs) memory_ += dense_bytes(values_[static_cast<std::size_t>(value)]);
  limits.admit(memory_);
  const std::int64_t bytes = arena.end().value();
  arena_ = OwnedTensor::allocate(dtype::u8, &bytes, 1, place);
  std::byte* base = arena_.memory.get();
  for (std::size_t i = 0; i < inputs_.size(); ++i) inputs_[i].data = values_[i].data = base + offset_of[i].value();
}

void Plan::bind_addresses() {
  std::byte* base = arena_.memory.get();
  for (Step& step : steps_) {
    const Node& node = *step.node;
    if (node.kind == Node::Kind::append) continue;
    if (node.kind != Node::Kind::op) {
      values_[static_cast<std::size_t>(node.outputs[0].index)] = view(node);
      continue;
    }
    for (std::size_t o = 0; o < step.outputs.size(); ++o) {
      if (step.offsets[o] != kNowhere) step.outputs[o].data = base + step.offsets[o];
      if (node.outputs[o].kind == Slot::Kind::value) {
        values_[static_cast<std::size_t>(node.outputs[o].index)].data = step.outputs[o].data;
      }
    }
  }
}

void Plan::run(const Context& context, Transfer& transfer, std::span<const Tensor> inputs,
               std::span<const StateBuffers> states) {
  for (std::size_t i = 0; i < inputs_.size(); ++i) transfer.in(inputs[i], inputs_[i].data);
  for (std::size_t i = 0; i < states.size(); ++i) {
    state_read_[i].data = states[i].read.data;
    state_write_[i].data = states[i].write.data;
    if (program_.states[i].is_growing()) state_write_[i] = states[i].write;
  }
  std::size_t operation = 0;
  for (Step& step : steps_) {
    const Node& node = *step.node;
    if (node.kind == Node::Kind::append) {
      append_rows(context, step);
      continue;
    }
    if (node.kind != Node::Kind::op) {
      if (step.dynamic) values_[static_cast<std::size_t>(node.outputs[0].index)] = view(node);
      continue;
    }
    if (context.is_cancelled()) fail(ErrorCode::cancelled, "cancelled before ", describe(node));
    for (std::size_t o = 0; o < step.outputs.size(); ++o) {
      if (node.outputs[o].kind == Slot::Kind::state) {
        step.outputs[o].data = state_write_[static_cast<std::size_t>(node.outputs[o].index)].data;
      }
    }
    if (profile_ != nullptr) profile_->begin();
    node.op->execute({node.op->signature, context, step.inputs, step.outputs, step.dims});
    if (profile_ != nullptr) profile_->end(operation++);
  }
}

}  // namespace mambasdk::runtime
