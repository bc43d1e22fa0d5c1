#include "runtime/engine/native.hpp"

#include <algorithm>
#include <cstring>

#include "runtime/engine/views.hpp"

namespace mambasdk::runtime {

namespace {

Tensor stored_view(const StoredTensor& t) {
  // The engine never writes to a weight; Tensor has one pointer type for both uses.
  return Tensor::contiguous(const_cast<std::byte*>(t.data), stored_dtype(t), t.shape.data(),
                            static_cast<int>(t.shape.size()));
}

}  // namespace

NativeModel::NativeModel(Package package) : Model(std::move(package)) {
  program_ = Program::parse(this->package().program_text());
  weights_.resize(program_.weights.size());
  std::vector<bool> known(program_.weights.size(), false);
  std::vector<bool> made(program_.weights.size(), false);
  for (const Node& node : program_.prepare) {
    for (const Slot& slot : node.outputs) {
      if (slot.kind == Slot::Kind::weight) made[static_cast<std::size_t>(slot.index)] = true;
    }
  }
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (made[i]) continue;
    weights_[i] = stored_view(this->package().weights().at(program_.weights[i]));
    known[i] = true;
  }
  for (const Node& node : program_.prepare) {
    for (const Slot& slot : node.inputs) {
      if (slot.kind == Slot::Kind::weight && !known[static_cast<std::size_t>(slot.index)]) {
        fail(ErrorCode::corrupt, "program.json: prepare reads ", program_.weights[static_cast<std::size_t>(slot.index)],
             " before it is made");
      }
    }
    for (const Slot& slot : node.outputs) {
      if (slot.kind == Slot::Kind::weight) known[static_cast<std::size_t>(slot.index)] = true;
    }
  }
  prepared_ = run_prepare(program_, weights_, default_context());
}

std::vector<TensorSpec> NativeModel::outputs() const {
  // The manifest describes the outputs it knows; the program may offer more (last_logits).
  std::vector<TensorSpec> specs;
  for (const auto& [name, value] : program_.outputs) {
    const auto& listed = package().manifest().outputs;
    const auto found = std::find_if(listed.begin(), listed.end(), [&](const TensorSpec& s) { return s.name == name; });
    specs.push_back(found != listed.end() ? *found : TensorSpec{name, "f32", {}});
  }
  return specs;
}

std::unique_ptr<Session> NativeModel::new_session(std::unique_ptr<Context> context) const {
  return std::make_unique<NativeSession>(std::static_pointer_cast<const NativeModel>(shared_from_this()),
                                         std::move(context));
}

NativeSession::NativeSession(std::shared_ptr<const NativeModel> model, std::unique_ptr<Context> context)
    : model_(std::move(model)), context_(std::move(context)), states_(model_->program().states) {}

void NativeSession::reset() {
  states_.clear();
}

Plan& NativeSession::plan_for(std::span<const Tensor> inputs, std::span<const std::int32_t> outputs,
                              std::span<const StateBuffers> states) {
  for (std::size_t i = 0; i < plans_.size(); ++i) {
    if (!plans_[i]->fits(inputs, outputs)) continue;
    std::rotate(plans_.begin(), plans_.begin() + static_cast<std::ptrdiff_t>(i),
                plans_.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    return *plans_.front();
  }
  if (plans_.size() == kMaxPlans) plans_.pop_back();
  plans_.insert(plans_.begin(), std::make_unique<Plan>(model_->program(), model_->weights(), inputs, states, outputs));
  return *plans_.front();
}

std::vector<OwnedTensor> NativeSession::run(std::span<const NamedTensor> inputs,
                                            std::span<const std::string_view> outputs) {
  const Program& program = model_->program();
  std::vector<Tensor> ordered;
  for (const TensorSpec& spec : program.inputs) {
    const auto found = std::find_if(inputs.begin(), inputs.end(), [&](auto& n) { return n.name == spec.name; });
    if (found == inputs.end()) fail(ErrorCode::invalid_argument, "input ", spec.name, " is missing");
    if (found->tensor.device != Device::cpu) {
      fail(ErrorCode::unsupported, "input ", spec.name, " is on device type ", static_cast<int>(found->tensor.device),
           "; this engine runs on the CPU: copy it there");
    }
    ordered.push_back(found->tensor);
  }
  if (inputs.size() != ordered.size()) {
    for (const NamedTensor& n : inputs) {
      const bool known =
          std::any_of(program.inputs.begin(), program.inputs.end(), [&](auto& s) { return s.name == n.name; });
      if (!known) fail(ErrorCode::invalid_argument, "the model has no input ", n.name);
    }
    fail(ErrorCode::invalid_argument, "an input is given twice");
  }
  std::vector<std::int32_t> wanted;
  for (const std::string_view name : outputs) {
    const auto found =
        std::find_if(program.outputs.begin(), program.outputs.end(), [&](auto& o) { return o.first == name; });
    if (found == program.outputs.end()) {
      std::string known;
      for (const auto& [other, value] : program.outputs) known += (known.empty() ? "" : ", ") + other;
      fail(ErrorCode::invalid_argument, "the model has no output ", name, "; it has ", known);
    }
    wanted.push_back(found->second);
  }
  const bool fresh = states_.empty();
  std::vector<OwnedTensor> results;
  try {
    states_.bind(bind_symbols(program.inputs, ordered));
    std::vector<StateBuffers> buffers;
    for (std::size_t i = 0; i < states_.size(); ++i) buffers.push_back({states_.now(i), states_.next(i)});
    Plan& plan = plan_for(ordered, wanted, buffers);
    plan.run(*context_, ordered, buffers);
    for (const std::int32_t value : wanted) {
      const Tensor& from = plan.value(value);
      results.push_back(OwnedTensor::allocate(from.dtype, from.shape.data(), from.ndim));
      copy_strided(from, results.back().view.data);
    }
    for (std::size_t i = 0; i < states_.size(); ++i) {
      if (plan.writes_state(i)) states_.advance(i);
    }
  } catch (...) {
    if (fresh) states_.clear();
    throw;
  }
  return results;
}

std::unique_ptr<Session> NativeSession::clone() const {
  auto copy = std::make_unique<NativeSession>(model_, nullptr);
  copy->context_ = context_;
  copy->states_ = states_.copy();
  return copy;
}

std::vector<std::byte> NativeSession::save() const {
  const Manifest& manifest = model_->package().manifest();
  return states_.save({{"family", manifest.family}, {"variant", manifest.variant}});
}

void NativeSession::restore(std::span<const std::byte> image) {
  states_.restore(image);
}

}  // namespace mambasdk::runtime
