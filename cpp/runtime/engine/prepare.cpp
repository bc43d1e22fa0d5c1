#include "runtime/engine/prepare.hpp"

#include "runtime/engine/memory_limit.hpp"
#include "runtime/engine/nodes.hpp"
#include "runtime/engine/profile.hpp"

namespace mambasdk::runtime {

namespace {

std::size_t index_of(const Slot& slot) {
  return static_cast<std::size_t>(slot.index);
}

// Which weights are done with after each step of `prepare`.
class Lifetimes {
 public:
  explicit Lifetimes(const Program& program)
      : owner_(program.weights.size()), last_(program.weights.size(), kNever), ending_(program.prepare.size()) {
    for (std::size_t i = 0; i < owner_.size(); ++i) owner_[i] = i;
    for (std::size_t step = 0; step < program.prepare.size(); ++step) {
      const Node& node = program.prepare[step];
      if (node.kind != Node::Kind::op) owner_[index_of(node.outputs[0])] = owner_[index_of(node.inputs[0])];
      for (const auto* slots : {&node.inputs, &node.outputs}) {
        for (const Slot& slot : *slots) {
          if (slot.kind == Slot::Kind::weight) last_[owner_[index_of(slot)]] = step;
        }
      }
    }
    for (const Node& node : program.nodes) {
      for (const Slot& slot : node.inputs) {
        if (slot.kind == Slot::Kind::weight) last_[owner_[index_of(slot)]] = kNever;
      }
    }
    for (std::size_t i = 0; i < owner_.size(); ++i) {
      if (owner_[i] == i && last_[i] != kNever) ending_[last_[i]].push_back(i);
    }
  }
  // Weights with memory of their own that nothing reads after the step.
  [[nodiscard]] const std::vector<std::size_t>& ending(std::size_t step) const { return ending_[step]; }

 private:
  static constexpr std::size_t kNever = SIZE_MAX;

  std::vector<std::size_t> owner_;  // of a view: the weight that it is a view of
  std::vector<std::size_t> last_;   // step that reads it; kNever: nodes do, or nothing does
  std::vector<std::vector<std::size_t>> ending_;
};

// One step; made[i] becomes the memory of weight i.
void prepare_node(const Node& node, std::vector<Tensor>& weights, const Context& context, PrepareLimits& limits,
                  std::vector<OwnedTensor>& made, Profile* profile, std::size_t place) {
  if (node.kind != Node::Kind::op) {
    weights[index_of(node.outputs[0])] = view_of(node, weights[index_of(node.inputs[0])],
                                                 [](const Amount& a) { return a.number; });  // no other is admitted
    return;
  }
  std::vector<Value> inputs;
  for (const Slot& slot : node.inputs) {
    Value value = slot.scalar;
    if (slot.kind == Slot::Kind::weight) value.tensor = &weights[index_of(slot)];
    inputs.push_back(value);
  }
  const Op::Plan planned = node.op->plan(inputs);
  for (const Tensor& t : planned.outputs) {
    check_size(t);
    limits.memory_used += dense_bytes(t);
  }
  check_memory(limits.memory_used, limits.memory, "what prepare makes");
  limits.work.spend(operation_work(*node.op, inputs, planned.outputs, planned.dims), "prepare");
  std::vector<OwnedTensor> memory;
  std::vector<Tensor> outputs;
  for (const Tensor& t : planned.outputs) {
    memory.push_back(OwnedTensor::allocate(t.dtype, t.shape.data(), t.ndim));
    outputs.push_back(memory.back().view);
  }
  const std::size_t entry = profile == nullptr ? 0 : profile->add(node, place, inputs, outputs);
  if (profile != nullptr) profile->begin();
  node.op->execute({node.op->signature, context, inputs, outputs, planned.dims});
  if (profile != nullptr) profile->end(entry);
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    if (node.outputs[o].kind != Slot::Kind::weight) {
      limits.memory_used -= dense_bytes(outputs[o]);
      continue;
    }
    weights[index_of(node.outputs[o])] = outputs[o];
    made[index_of(node.outputs[o])] = std::move(memory[o]);
  }
}

}  // namespace

std::vector<OwnedTensor> run_prepare(const Program& program, std::vector<Tensor>& weights, const Context& context,
                                     PrepareLimits limits, const std::function<void(std::size_t weight)>& unused) {
  const Lifetimes lifetimes(program);
  const std::unique_ptr<Profile> profile = Profile::wanted("prepare");
  std::vector<OwnedTensor> made(weights.size());
  for (std::size_t step = 0; step < program.prepare.size(); ++step) {
    const Node& node = program.prepare[step];
    try {
      prepare_node(node, weights, context, limits, made, profile.get(), step);
    } catch (const Error& e) {
      const ErrorCode code = e.code() == ErrorCode::invalid_argument ? ErrorCode::corrupt : e.code();
      fail(code, "program.json: prepare[", step, "] (", describe(node), "): ", e.what());
    }
    for (const std::size_t weight : lifetimes.ending(step)) {
      if (made[weight].memory == nullptr) {
        unused(weight);
        continue;
      }
      limits.memory_used -= dense_bytes(made[weight].view);
      made[weight] = {};
      weights[weight].data = nullptr;
    }
  }
  std::erase_if(made, [](const OwnedTensor& t) { return t.memory == nullptr; });
  return made;
}

}  // namespace mambasdk::runtime
