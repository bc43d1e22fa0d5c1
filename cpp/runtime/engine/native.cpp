#include "runtime/engine/native.hpp"

#include <algorithm>
#include <map>

#include "runtime/engine/memory_limit.hpp"
#include "runtime/engine/prepare.hpp"
#include "runtime/engine/views.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

namespace {

Tensor stored_view(const StoredTensor& t) {
  // The engine never writes to a weight; Tensor has one pointer type for both uses.
  return Tensor::contiguous(const_cast<std::byte*>(t.data), stored_dtype(t), t.shape.data(),
                            static_cast<int>(t.shape.size()));
}

}  // namespace

NativeModel::NativeModel(Package package, const LoadOptions& options)
    : Model(std::move(package)),
      max_memory_(options.max_memory),
      max_work_(options.max_work == 0 ? kUnlimitedWork : options.max_work) {
  const std::string text = this->package().program_text();
  program_ = Program::parse(text);
  identity_ = state_identity(this->package(), text);
  if (const std::string& file = this->package().manifest().constants; !file.empty()) {
    constants_ = Safetensors::open(this->package().file_path(file));
  }
  weights_.resize(program_.weights.size());
  std::vector<bool> known(program_.weights.size(), false);
  made_.assign(program_.weights.size(), false);
  for (const Node& node : program_.prepare) {
    for (const Slot& slot : node.outputs) {
      if (slot.kind == Slot::Kind::weight) made_[static_cast<std::size_t>(slot.index)] = true;
    }
  }
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (made_[i]) continue;
    weights_[i] = stored_view(stored(i));
    known[i] = true;
  }
  for (const Node& node : program_.prepare) {
    for (const Slot& slot : node.inputs) {
      if (slot.kind == Slot::Kind::weight && !known[static_cast<std::size_t>(slot.index)]) {
        fail(ErrorCode::corrupt, "program.json: prepare reads ",
             printable(program_.weights[static_cast<std::size_t>(slot.index)]), " before it is made");
      }
    }
    for (const Slot& slot : node.outputs) {
      if (slot.kind == Slot::Kind::weight) known[static_cast<std::size_t>(slot.index)] = true;
    }
  }
  std::uint64_t stored = kPrepareFreeBytes;
  for (const Tensor& t : weights_) stored += dense_bytes(t).bytes();
  prepared_ = run_prepare(
      program_, weights_, default_context(),
      {max_memory_, WorkBudget(std::min(stored, kUnlimitedWork / kPrepareWorkPerByte / 2) * kPrepareWorkPerByte)},
      [this](std::size_t weight) { give_back(weight); });
  std::map<std::string_view, const TensorSpec*> listed;
  for (const TensorSpec& spec : this->package().manifest().outputs) listed.emplace(spec.name, &spec);
  for (const auto& [name, value] : program_.outputs) {
    const auto found = listed.find(name);
    stated_.push_back(found == listed.end() ? nullptr : found->second);
  }
}

const StoredTensor& NativeModel::stored(std::size_t weight) const {
  const std::string& name = program_.weights[weight];
  const StoredTensor* constant = constants_.find(name);
  return constant != nullptr ? *constant : package().weights().at(name);
}

void NativeModel::give_back(std::size_t weight) {
  const StoredTensor& tensor = this->stored(weight);
  constants_.give_back(tensor);  // each looks whether the tensor is its own
  own_package().give_back(tensor);
}

std::vector<TensorSpec> NativeModel::outputs() const {
  // The manifest describes the outputs it knows; the program may offer more (last_logits).
  std::vector<TensorSpec> specs;
  for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
    specs.push_back(stated_[i] != nullptr ? *stated_[i] : TensorSpec{program_.outputs[i].first, "f32", {}});
  }
  return specs;
}

std::span<const Tensor> NativeModel::weights(const Place& place) const {
  if (place.is_host()) return weights_;
  std::vector<Tensor> owners;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (!made_[i]) owners.push_back(stored_view(stored(i)));
  }
  for (const OwnedTensor& t : prepared_) owners.push_back(t.view);
  return device_weights_.get(place, program_, weights_, owners);
}

std::unique_ptr<Session> NativeModel::new_session(std::unique_ptr<Context> context) const {
  return std::make_unique<NativeSession>(std::static_pointer_cast<const NativeModel>(shared_from_this()),
                                         std::move(context));
}

namespace {

// The context's place; on a stream of its own where the host gave none.
Place place_of(Context& context) {
  context.make_stream();
  return Place::at(context.device(), context.device_index(), context.stream());
}

}  // namespace

NativeSession::NativeSession(std::shared_ptr<const NativeModel> model, std::unique_ptr<Context> context)
    : model_(std::move(model)),
      context_(std::move(context)),
      place_(place_of(*context_)),
      weights_(model_->weights(place_)),
      states_(model_->program().states, model_->max_memory(), place_) {}

NativeSession::NativeSession(std::shared_ptr<const NativeModel> model, std::shared_ptr<Context> context,
                             SessionStates states)
    : model_(std::move(model)),
      context_(std::move(context)),
      place_(place_of(*context_)),
      weights_(model_->weights(place_)),
      states_(std::move(states)) {}

void NativeSession::reset() {
  states_.clear();
}

// So that what is needed fits, but for the plans in front.
void NativeSession::drop_plans(Extent needed, std::size_t kept) {
  check_memory(needed, model_->max_memory(), "the run");
  Extent others;
  for (std::size_t i = kept; i < plans_.size(); ++i) others += plans_[i]->memory();
  while (plans_.size() > kept && static_cast<std::uint64_t>((needed + others).value()) > model_->max_memory()) {
    others -= plans_.back()->memory();
    plans_.pop_back();
  }
}

void NativeSession::make_room(Extent bytes) {
  drop_plans(states_.bytes() + bytes, 0);
}

void NativeSession::make_rows() {
  const Plan& plan = *plans_.front();
  drop_plans(states_.bytes_after(plan.appended()) + plan.memory(), 1);
  states_.reserve(plan.appended(), model_->max_memory() - plan.memory().bytes());
}

std::vector<StateBuffers> NativeSession::state_buffers() const {
  std::vector<StateBuffers> buffers;
  for (std::size_t i = 0; i < states_.size(); ++i) buffers.push_back({states_.now(i), states_.next(i)});
  return buffers;
}

Plan& NativeSession::plan_for(std::span<const Tensor> inputs, std::span<const std::int32_t> outputs,
                              std::span<const StateBuffers> states) {
  for (std::size_t i = 0; i < plans_.size(); ++i) {
    if (!plans_[i]->fits(inputs, outputs)) continue;
    std::unique_ptr<Plan> plan = std::move(plans_[i]);
    plans_.erase(plans_.begin() + static_cast<std::ptrdiff_t>(i));
    if (!plan->follow(states)) break;
    plans_.insert(plans_.begin(), std::move(plan));
    return *plans_.front();
  }
  if (plans_.size() == kMaxPlans) plans_.pop_back();
  const std::function<void(Extent)> admit = [this](Extent bytes) { make_room(bytes); };
  auto plan = std::make_unique<Plan>(model_->program(), weights_, inputs, states, outputs,
                                     Plan::Limits{admit, model_->max_work()}, place_);
  plans_.insert(plans_.begin(), std::move(plan));
  return *plans_.front();
}

std::vector<Tensor> NativeSession::ordered_inputs(std::span<const NamedTensor> inputs) const {
  std::map<std::string_view, const Tensor*> given;
  for (const NamedTensor& input : inputs) {
    if (!given.emplace(input.name, &input.tensor).second) {
      fail(ErrorCode::invalid_argument, "input ", printable(input.name), " is given twice");
    }
  }
  std::vector<Tensor> ordered;
  for (const TensorSpec& spec : model_->program().inputs) {
    const auto found = given.find(spec.name);
    if (found == given.end()) {
      fail(ErrorCode::invalid_argument, "input ", printable(spec.name), " is missing, expected ", spec_text(spec));
    }
    const Tensor& input = *found->second;
    if (input.device != Device::cpu && (input.device != place_.type() || input.device_index != place_.index)) {
      fail(ErrorCode::unsupported, "input ", printable(spec.name), " is on ",
           device_text(input.device, input.device_index), ", the session runs on ",
           device_text(place_.type(), place_.index), "; copy it to the CPU");
    }
    ordered.push_back(input);
    given.erase(found);
  }
  if (!given.empty()) {
    fail(ErrorCode::invalid_argument, "the model has no input ", printable(given.begin()->first));
  }
  return ordered;
}

std::vector<std::size_t> NativeSession::wanted_outputs(std::span<const std::string_view> names) const {
  const Program& program = model_->program();
  std::vector<std::size_t> wanted;
  for (const std::string_view name : names) {
    const auto found = program.output_index.find(name);
    if (found == program.output_index.end()) {
      constexpr std::size_t kMostShown = 8;
      std::string known;
      for (std::size_t i = 0; i < std::min(program.outputs.size(), kMostShown); ++i) {
        known += (i == 0 ? "" : ", ") + printable(program.outputs[i].first);
      }
      fail(ErrorCode::invalid_argument, "the model has no output ", printable(name), "; it has ", known,
           program.outputs.size() > kMostShown ? concat(" and ", program.outputs.size() - kMostShown, " more") : "");
    }
    wanted.push_back(found->second);
  }
  return wanted;
}

std::vector<OwnedTensor> NativeSession::run(std::span<const NamedTensor> inputs,
                                            std::span<const std::string_view> outputs) {
  const Program& program = model_->program();
  const std::vector<Tensor> ordered = ordered_inputs(inputs);
  const std::vector<std::size_t> wanted = wanted_outputs(outputs);
  std::vector<std::int32_t> values;
  for (const std::size_t output : wanted) values.push_back(program.outputs[output].second);
  const bool fresh = states_.empty();
  std::vector<OwnedTensor> results;
  try {
    states_.bind(bind_symbols(program.inputs, ordered));
    Plan& plan = plan_for(ordered, values, state_buffers());
    if (program.first_length < program.symbols.size()) make_rows();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      if (const TensorSpec* spec = model_->stated(wanted[i])) {
        check_output(*spec, plan.value(values[i]), plan.symbols());
      }
    }
    Transfer transfer(place_);
    plan.run(*context_, transfer, ordered, state_buffers());
    for (const std::int32_t value : values) results.push_back(transfer.out(plan.value(value)));
    transfer.finish();
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
  return std::unique_ptr<Session>(new NativeSession(model_, context_, states_.copy()));
}

namespace {

struct NativeSnapshot final : Snapshot {
  explicit NativeSnapshot(SessionStates held) : states(std::move(held)) {}
  SessionStates states;
};

}  // namespace

std::unique_ptr<Snapshot> NativeSession::snapshot() const {
  if (model_->program().states.empty()) return nullptr;
  return std::make_unique<NativeSnapshot>(states_.snapshot());
}

void NativeSession::roll_back(std::unique_ptr<Snapshot> snapshot) noexcept {
  states_ = std::move(static_cast<NativeSnapshot&>(*snapshot).states);
}

std::vector<std::byte> NativeSession::save() const {
  return states_.save(model_->identity().metadata());
}

void NativeSession::restore(std::span<const std::byte> image) {
  states_.restore(image, &model_->identity());
}

}  // namespace mambasdk::runtime
