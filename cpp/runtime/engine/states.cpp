// Making, checking, saving and restoring what a session carries.
#include "runtime/engine/states.hpp"

#include <algorithm>
#include <array>

#include "core/error.hpp"
#include "runtime/engine/identity.hpp"
#include "runtime/engine/memory_limit.hpp"
#include "runtime/engine/transfer.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

namespace {

std::string stored_name(DType type) {
  const DTypeInfo* info = find_dtype(type);
  if (info == nullptr || info->stored.empty()) {
    fail(ErrorCode::unsupported, "a state of ", dtype_name(type), " cannot be saved");
  }
  return std::string(info->stored);
}

// "F64, F32, …": what the engine computes with.
std::string computed_names() {
  std::string names;
  for (const DTypeInfo& info : dtype_table()) {
    if (info.use == DTypeUse::computed && !info.stored.empty()) names += concat(names.empty() ? "" : ", ", info.stored);
  }
  return names;
}

}  // namespace

DType stored_dtype(const StoredTensor& t) {
  const DTypeInfo* info = find_dtype_stored_as(t.dtype);
  if (info == nullptr || info->use != DTypeUse::computed) {
    fail(ErrorCode::unsupported, printable(t.name), " is ", printable(t.dtype), "; expected one of ", computed_names());
  }
  return info->dtype;
}

std::vector<StateSpec> state_specs(const std::vector<TensorSpec>& specs) {
  std::vector<StateSpec> states;
  for (const TensorSpec& spec : specs) {
    DType type{};
    if (!dtype_from_name(spec.dtype, type) || spec.shape.size() > kMaxDims) {
      fail(ErrorCode::corrupt, "state ", printable(spec.name), " is ", printable(spec.dtype), " of ", spec.shape.size(),
           " dims; expected a known dtype and at most ", kMaxDims, " dims");
    }
    states.push_back({spec.name, type, spec.shape});
  }
  return states;
}

void SessionStates::check_total(Extent one_side) const {
  check_memory(one_side * 2, max_memory_, "the session's state");
}

Extent SessionStates::bytes() const {
  Extent sum;
  for (const State& state : states_) sum += dense_bytes(state.now.view) * 2;
  return sum;
}

void SessionStates::bind(const Symbols& symbols) {
  const bool fresh = states_.empty();
  std::vector<std::array<std::int64_t, kMaxDims>> shapes(specs_.size());
  Extent total;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const StateSpec& spec = specs_[i];
    for (std::size_t d = 0; d < spec.shape.size(); ++d) {
      shapes[i][d] = symbol_value(symbols, spec.shape[d]);
      if (!fresh && states_[i].now.view.shape[d] != shapes[i][d]) {
        fail(ErrorCode::invalid_argument, "the session holds state for ", printable(spec.shape[d].symbol), " = ",
             states_[i].now.view.shape[d], ", got inputs with ", printable(spec.shape[d].symbol), " = ", shapes[i][d],
             "; reset the session or make another");
      }
    }
    total += dense_bytes(spec.dtype, shapes[i].data(), static_cast<int>(spec.shape.size()));
  }
  if (!fresh) return;
  check_total(total);
  std::vector<State> made(specs_.size());
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    made[i] = make_state(specs_[i].dtype, shapes[i].data(), static_cast<int>(specs_[i].shape.size()));
    place_.zero(made[i].now.memory.get(), dense_bytes(made[i].now.view).bytes());
  }
  states_ = std::move(made);
}

SessionStates::State SessionStates::make_state(DType dtype, const std::int64_t* shape, int ndim) const {
  return {OwnedTensor::allocate(dtype, shape, ndim, place_), OwnedTensor::allocate(dtype, shape, ndim, place_)};
}

SessionStates SessionStates::copy() const {
  SessionStates other(specs_, max_memory_, place_);
  other.states_.reserve(states_.size());
  for (const State& state : states_) {
    const Tensor& t = state.now.view;
    other.states_.push_back(make_state(t.dtype, t.shape.data(), t.ndim));
    place_.copy(CopyDirection::on_device, other.states_.back().now.memory.get(), state.now.memory.get(),
                dense_bytes(t).bytes());
  }
  return other;
}

std::vector<std::byte> SessionStates::save(std::map<std::string, std::string> metadata) const {
  std::vector<StoredTensor> tensors;
  std::vector<OwnedTensor> copies;
  Transfer transfer(place_);
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const Tensor& t = states_[i].now.view;
    copies.push_back(transfer.out(t));
    tensors.push_back({specs_[i].name,
                       stored_name(t.dtype),
                       {t.shape.begin(), t.shape.begin() + t.ndim},
                       copies.back().memory.get(),
                       dense_bytes(t).bytes()});
  }
  transfer.finish();
  metadata.emplace("mambasdk_state", "1");
  return serialize_safetensors(tensors, metadata);
}

void SessionStates::restore(std::span<const std::byte> image, const StateIdentity* identity) {
  const Safetensors saved = Safetensors::from_bytes(image, "saved state");
  const auto& metadata = saved.metadata();
  if (!metadata.contains("mambasdk_state")) fail(ErrorCode::corrupt, "this is no saved state of a session");
  if (identity != nullptr) identity->check(metadata);
  if (saved.tensors().empty()) return clear();
  if (saved.tensors().size() != specs_.size()) {
    fail(ErrorCode::invalid_argument, "the saved state has ", saved.tensors().size(), " tensors, the model ",
         specs_.size(), "; it belongs to another model");
  }
  Symbols symbols;
  Extent total;
  for (const StateSpec& spec : specs_) {
    const StoredTensor& t = saved.at(spec.name);
    bool fits = stored_dtype(t) == spec.dtype && t.shape.size() == spec.shape.size();
    for (std::size_t d = 0; fits && d < t.shape.size(); ++d) {
      const Dimension& wanted = spec.shape[d];
      fits = wanted.symbol.empty() ? wanted.size == t.shape[d]
                                   : symbols.emplace(wanted.symbol, t.shape[d]).first->second == t.shape[d];
    }
    if (!fits) {
      fail(ErrorCode::invalid_argument, "saved state ", printable(spec.name),
           " has another shape or dtype than the model's");
    }
    total += static_cast<std::uint64_t>(t.size);
  }
  check_total(total);
  std::vector<State> made;
  made.reserve(specs_.size());
  Transfer transfer(place_);
  for (const StateSpec& spec : specs_) {
    const StoredTensor& t = saved.at(spec.name);
    made.push_back(make_state(spec.dtype, t.shape.data(), static_cast<int>(t.shape.size())));
    place_.copy(CopyDirection::to_device, made.back().now.memory.get(), t.data, t.size);
  }
  transfer.finish();
  states_ = std::move(made);
}

}  // namespace mambasdk::runtime
