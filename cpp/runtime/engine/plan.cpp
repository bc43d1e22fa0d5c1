#include "runtime/engine/plan.hpp"

#include <algorithm>
#include <cstring>

#include "runtime/engine/views.hpp"

namespace mambasdk::runtime {

namespace {
constexpr std::int32_t kState = -2;
constexpr std::int32_t kWeight = -3;
constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);
constexpr std::size_t kAlignment = 64;

std::size_t aligned(std::int64_t bytes) {
  return (static_cast<std::size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
}

std::string describe(const Node& node) {
  if (node.kind == Node::Kind::op) return node.op->signature.name;
  switch (node.kind) {
    case Node::Kind::slice:
      return "slice";
    case Node::Kind::reshape:
      return "reshape";
    case Node::Kind::expand:
      return "expand";
    default:
      return "permute";
  }
}

// `shape`: of a reshape or an expand, symbols filled in.
Tensor view_of(const Node& node, const Tensor& in, std::span<const std::int64_t> shape) {
  switch (node.kind) {
    case Node::Kind::slice:
      return slice_view(in, node.dim, node.start, node.length);
    case Node::Kind::permute:
      return permute_view(in, node.dims);
    case Node::Kind::expand:
      return expand_view(in, shape);
    default:
      return reshape_view(in, shape);
  }
}

// What a few lines of a program can blow up to; memory runs out far below, arithmetic on sizes does not.
void check_size(const Tensor& t) {
  std::int64_t count = 1;
  for (int d = 0; d < t.ndim; ++d) {
    if (t.size(d) > 0 && count > kMostElements / t.size(d)) {
      fail(ErrorCode::out_of_memory, "a tensor of ", t.shape_text(), " has more than ", kMostElements, " elements");
    }
    count *= t.size(d) > 0 ? t.size(d) : 1;
  }
}

bool same_shape(const Tensor& a, const Tensor& b) {
  return a.ndim == b.ndim && std::equal(a.shape.begin(), a.shape.begin() + a.ndim, b.shape.begin());
}

// First-fit allocator over offsets; only sizes are known while planning.
class OffsetAllocator {
 public:
  std::size_t take(std::size_t bytes) {
    for (auto block = free_.begin(); block != free_.end(); ++block) {
      if (block->second < bytes) continue;
      const std::size_t offset = block->first;
      block->first += bytes;
      block->second -= bytes;
      if (block->second == 0) free_.erase(block);
      return offset;
    }
    const std::size_t offset = end_;
    end_ += bytes;
    return offset;
  }
  void give(std::size_t offset, std::size_t bytes) {
    if (bytes == 0) return;
    const auto at = std::lower_bound(free_.begin(), free_.end(), std::pair{offset, std::size_t{0}});
    const auto block = free_.insert(at, {offset, bytes});
    if (const auto next = std::next(block); next != free_.end() && block->first + block->second == next->first) {
      block->second += next->second;
      free_.erase(next);
    }
    if (block != free_.begin()) {
      if (const auto previous = std::prev(block); previous->first + previous->second == block->first) {
        previous->second += block->second;
        free_.erase(block);
      }
    }
  }
  [[nodiscard]] std::size_t end() const { return end_; }

 private:
  std::vector<std::pair<std::size_t, std::size_t>> free_;
  std::size_t end_ = 0;
};

}  // namespace

std::int64_t Plan::extent(const Dimension& d) const {
  return symbol_value(symbols_, d);
}

Plan::Plan(const Program& program, std::span<const Tensor> weights, std::span<const Tensor> inputs,
           std::span<const StateBuffers> states, std::span<const std::int32_t> outputs)
    : program_(program), weights_(weights), outputs_(outputs.begin(), outputs.end()) {
  symbols_ = bind_symbols(program.inputs, inputs);
  for (const Tensor& t : inputs) inputs_.push_back(Tensor::contiguous(nullptr, t.dtype, t.shape.data(), t.ndim));
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
  infer_shapes();
  place_values(outputs);
  bind_addresses();
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
    steps_.push_back({&*node, {}, {}, {}, {}, false});
  }
  std::reverse(steps_.begin(), steps_.end());
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
  std::array<std::int64_t, kMaxDims> shape{};
  for (std::size_t d = 0; d < node.shape.size(); ++d) shape[d] = extent(node.shape[d]);
  return view_of(node, *source(node.inputs[0]), {shape.data(), node.shape.size()});
}

void Plan::infer_shapes() {
  for (Step& step : steps_) {
    const Node& node = *step.node;
    try {
      if (node.kind != Node::Kind::op) {
        const auto out = static_cast<std::size_t>(node.outputs[0].index);
        const Slot& in = node.inputs[0];
        values_[out] = view(node);
        root_[out] = in.kind == Slot::Kind::value   ? root_[static_cast<std::size_t>(in.index)]
                     : in.kind == Slot::Kind::state ? kState
                                                    : kWeight;
        step.dynamic = root_[out] == kState;
        continue;
      }
      for (const Slot& slot : node.inputs) {
        Value value = slot.scalar;
        if (slot.kind != Slot::Kind::scalar) value.tensor = source(slot);
        step.inputs.push_back(value);
      }
      Op::Plan planned = node.op->plan(step.inputs);
      step.dims = std::move(planned.dims);
      step.outputs = std::move(planned.outputs);
      for (const Tensor& t : step.outputs) check_size(t);
    } catch (const Error& e) {
      fail(ErrorCode::corrupt, "program.json: the node that makes ",
           node.outputs.empty() || node.outputs[0].kind != Slot::Kind::value
               ? std::string("a state")
               : program_.values[static_cast<std::size_t>(node.outputs[0].index)],
           ": ", e.what());
    }
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const Slot& slot = node.outputs[i];
      const auto index = static_cast<std::size_t>(slot.index);
      if (slot.kind == Slot::Kind::value) {
        values_[index] = step.outputs[i];
        root_[index] = slot.index;
      } else if (slot.kind == Slot::Kind::state) {
        const Tensor& state = state_write_[index];
        if (!same_shape(step.outputs[i], state) || !(step.outputs[i].dtype == state.dtype)) {
          fail(ErrorCode::corrupt, "program.json: ", describe(node), " makes state ", program_.states[index].name,
               " as ", dtype_name(step.outputs[i].dtype), " ", step.outputs[i].shape_text(), ", declared ",
               dtype_name(state.dtype), " ", state.shape_text());
        }
        state_written_[index] = true;
      }
    }
  }
}

void Plan::place_values(std::span<const std::int32_t> outputs) {
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
  std::vector<std::size_t> offset_of(values_.size(), kNowhere);
  for (std::size_t i = 0; i < inputs_.size(); ++i) offset_of[i] = arena.take(aligned(inputs_[i].nbytes()));
  std::vector<std::vector<std::size_t>> dying(steps_.size() + 1);
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    Step& step = steps_[i];
    step.offsets.assign(step.outputs.size(), kNowhere);
    std::vector<std::size_t> dropped;
    for (std::size_t o = 0; o < step.outputs.size(); ++o) {
      const Slot& slot = step.node->outputs[o];
      if (slot.kind == Slot::Kind::state || step.outputs[o].numel() == 0) continue;
      step.offsets[o] = arena.take(aligned(step.outputs[o].nbytes()));
      if (slot.kind == Slot::Kind::value) {
        const auto value = static_cast<std::size_t>(slot.index);
        offset_of[value] = step.offsets[o];
        dying[std::max(last[value], i)].push_back(value);
      } else {
        dropped.push_back(o);
      }
    }
    for (const std::size_t o : dropped) arena.give(step.offsets[o], aligned(step.outputs[o].nbytes()));
    for (const std::size_t value : dying[i]) arena.give(offset_of[value], aligned(values_[value].nbytes()));
  }
  arena_bytes_ = arena.end();
  const auto bytes = static_cast<std::int64_t>(arena_bytes_);
  arena_ = OwnedTensor::allocate(dtype::u8, &bytes, 1);
  std::byte* base = arena_.memory.get();
  for (std::size_t i = 0; i < inputs_.size(); ++i) inputs_[i].data = values_[i].data = base + offset_of[i];
}

void Plan::bind_addresses() {
  std::byte* base = arena_.memory.get();
  for (Step& step : steps_) {
    const Node& node = *step.node;
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

void Plan::run(const Context& context, std::span<const Tensor> inputs, std::span<const StateBuffers> states) {
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    copy_strided(inputs[i], inputs_[i].data);
  }
  for (std::size_t i = 0; i < states.size(); ++i) {
    state_read_[i].data = states[i].read.data;
    state_write_[i].data = states[i].write.data;
  }
  for (Step& step : steps_) {
    const Node& node = *step.node;
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
    node.op->execute({node.op->signature, context, step.inputs, step.outputs, step.dims});
  }
}

std::vector<OwnedTensor> run_prepare(const Program& program, std::vector<Tensor>& weights, const Context& context) {
  std::vector<OwnedTensor> made;
  for (const Node& node : program.prepare) {
    const auto input = [&](const Slot& slot) { return weights[static_cast<std::size_t>(slot.index)]; };
    if (node.kind != Node::Kind::op) {
      std::array<std::int64_t, kMaxDims> shape{};
      for (std::size_t d = 0; d < node.shape.size(); ++d) {
        if (!node.shape[d].symbol.empty())
          fail(ErrorCode::corrupt, "program.json: prepare cannot use dim ", node.shape[d].symbol);
        shape[d] = node.shape[d].size;
      }
      weights[static_cast<std::size_t>(node.outputs[0].index)] =
          view_of(node, input(node.inputs[0]), {shape.data(), node.shape.size()});
      continue;
    }
    std::vector<Value> inputs;
    for (const Slot& slot : node.inputs) {
      Value value = slot.scalar;
      if (slot.kind == Slot::Kind::weight) value.tensor = &weights[static_cast<std::size_t>(slot.index)];
      inputs.push_back(value);
    }
    const Op::Plan planned = node.op->plan(inputs);
    std::vector<Tensor> outputs;
    for (const Tensor& t : planned.outputs) {
      check_size(t);
      made.push_back(OwnedTensor::allocate(t.dtype, t.shape.data(), t.ndim));
      outputs.push_back(made.back().view);
    }
    node.op->execute({node.op->signature, context, inputs, outputs, planned.dims});
    for (std::size_t o = 0; o < outputs.size(); ++o) {
      if (node.outputs[o].kind == Slot::Kind::weight)
        weights[static_cast<std::size_t>(node.outputs[o].index)] = outputs[o];
    }
  }
  return made;
}

}  // namespace mambasdk::runtime
