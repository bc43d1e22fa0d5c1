#include "runtime/engine/native.hpp"

#include <algorithm>
#include <cstring>

#include "runtime/engine/views.hpp"

namespace mambasdk::runtime {

namespace {

DType stored_dtype(const StoredTensor& t) {
  static constexpr std::pair<const char*, DType> names[] = {
      {"F32", dtype::f32}, {"BF16", dtype::bf16}, {"F16", dtype::f16}, {"F64", dtype::f64},
      {"I32", dtype::i32}, {"I64", dtype::i64},   {"U8", dtype::u8},   {"BOOL", dtype::boolean}};
  for (const auto& [name, type] : names) {
    if (t.dtype == name) return type;
  }
  fail(ErrorCode::unsupported, "model.safetensors: ", t.name, " is ", t.dtype,
       "; the native engine reads F32, BF16, F16, F64, I32, I64, U8 and BOOL");
}

Tensor stored_view(const StoredTensor& t) {
  // The engine never writes to a weight; Tensor has one pointer type for both uses.
  return Tensor::contiguous(const_cast<std::byte*>(t.data), stored_dtype(t), t.shape.data(),
                            static_cast<int>(t.shape.size()));
}

const char* safetensors_name(DType type) {
  return type == dtype::f32    ? "F32"
         : type == dtype::bf16 ? "BF16"
         : type == dtype::f16  ? "F16"
         : type == dtype::f64  ? "F64"
         : type == dtype::i32  ? "I32"
         : type == dtype::i64  ? "I64"
                               : "U8";
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
    : model_(std::move(model)), context_(std::move(context)) {}

void NativeSession::reset() {
  states_.clear();
}

void NativeSession::prepare_states(std::span<const Tensor> inputs) {
  const Program& program = model_->program();
  const auto symbols = bind_symbols(program.inputs, inputs);
  const bool fresh = states_.empty();
  if (fresh) states_.resize(program.states.size());
  for (std::size_t i = 0; i < program.states.size(); ++i) {
    const StateSpec& spec = program.states[i];
    std::array<std::int64_t, kMaxDims> shape{};
    for (std::size_t d = 0; d < spec.shape.size(); ++d) shape[d] = symbol_value(symbols, spec.shape[d]);
    if (fresh) {
      const int ndim = static_cast<int>(spec.shape.size());
      states_[i] = {OwnedTensor::allocate(spec.dtype, shape.data(), ndim),
                    OwnedTensor::allocate(spec.dtype, shape.data(), ndim)};
      std::memset(states_[i].now.memory.get(), 0, static_cast<std::size_t>(states_[i].now.view.nbytes()));
      continue;
    }
    const Tensor& held = states_[i].now.view;
    for (std::size_t d = 0; d < spec.shape.size(); ++d) {
      if (held.shape[d] != shape[d]) {
        fail(ErrorCode::invalid_argument, "the session holds state for ", spec.shape[d].symbol, " = ", held.shape[d],
             ", got inputs with ", spec.shape[d].symbol, " = ", shape[d], "; reset the session or make another");
      }
    }
  }
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
    prepare_states(ordered);
    std::vector<StateBuffers> buffers;
    for (const State& state : states_) buffers.push_back({state.now.view, state.next.view});
    Plan& plan = plan_for(ordered, wanted, buffers);
    plan.run(*context_, ordered, buffers);
    for (const std::int32_t value : wanted) {
      const Tensor& from = plan.value(value);
      results.push_back(OwnedTensor::allocate(from.dtype, from.shape.data(), from.ndim));
      copy_strided(from, results.back().view.data);
    }
    for (std::size_t i = 0; i < states_.size(); ++i) {
      if (plan.writes_state(i)) std::swap(states_[i].now, states_[i].next);
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
  for (const State& state : states_) {
    const Tensor& t = state.now.view;
    copy->states_.push_back({OwnedTensor::allocate(t.dtype, t.shape.data(), t.ndim),
                             OwnedTensor::allocate(t.dtype, t.shape.data(), t.ndim)});
    std::memcpy(copy->states_.back().now.memory.get(), state.now.memory.get(), static_cast<std::size_t>(t.nbytes()));
  }
  return copy;
}

std::vector<std::byte> NativeSession::save() const {
  std::vector<StoredTensor> tensors;
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const Tensor& t = states_[i].now.view;
    tensors.push_back({model_->program().states[i].name,
                       safetensors_name(t.dtype),
                       {t.shape.begin(), t.shape.begin() + t.ndim},
                       states_[i].now.memory.get(),
                       static_cast<std::size_t>(t.nbytes())});
  }
  const Manifest& manifest = model_->package().manifest();
  return serialize_safetensors(tensors,
                               {{"mambasdk_state", "1"}, {"family", manifest.family}, {"variant", manifest.variant}});
}

void NativeSession::restore(std::span<const std::byte> image) {
  const Safetensors saved = Safetensors::from_bytes(image, "saved state");
  const auto& metadata = saved.metadata();
  if (!metadata.contains("mambasdk_state")) fail(ErrorCode::corrupt, "this is no saved state of a session");
  const Program& program = model_->program();
  if (saved.tensors().empty()) return reset();
  if (saved.tensors().size() != program.states.size()) {
    fail(ErrorCode::invalid_argument, "the saved state has ", saved.tensors().size(), " tensors, the model ",
         program.states.size(), "; it belongs to another model");
  }
  std::vector<State> made;
  std::vector<std::pair<std::string, std::int64_t>> symbols;
  for (const StateSpec& spec : program.states) {
    const StoredTensor& t = saved.at(spec.name);
    bool fits = stored_dtype(t) == spec.dtype && t.shape.size() == spec.shape.size();
    for (std::size_t d = 0; fits && d < t.shape.size(); ++d) {
      const Dimension& wanted = spec.shape[d];
      if (wanted.symbol.empty()) {
        fits = wanted.size == t.shape[d];
        continue;
      }
      const auto found =
          std::find_if(symbols.begin(), symbols.end(), [&](auto& s) { return s.first == wanted.symbol; });
      if (found == symbols.end()) {
        symbols.emplace_back(wanted.symbol, t.shape[d]);
      } else {
        fits = found->second == t.shape[d];
      }
    }
    if (!fits)
      fail(ErrorCode::invalid_argument, "saved state ", spec.name, " has another shape or dtype than the model's");
    const int ndim = static_cast<int>(t.shape.size());
    made.push_back({OwnedTensor::allocate(spec.dtype, t.shape.data(), ndim),
                    OwnedTensor::allocate(spec.dtype, t.shape.data(), ndim)});
    std::memcpy(made.back().now.memory.get(), t.data, t.size);
  }
  states_ = std::move(made);
}

}  // namespace mambasdk::runtime
