// Making, checking, saving and restoring what a session carries.
#include "runtime/engine/states.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "core/error.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

namespace {

struct StoredName {
  const char* name;
  DType type;
};
constexpr std::array<StoredName, 8> stored_names{{{"F32", dtype::f32},
                                                  {"BF16", dtype::bf16},
                                                  {"F16", dtype::f16},
                                                  {"F64", dtype::f64},
                                                  {"I32", dtype::i32},
                                                  {"I64", dtype::i64},
                                                  {"U8", dtype::u8},
                                                  {"BOOL", dtype::boolean}}};

std::string stored_name(DType type) {
  const auto found = std::find_if(stored_names.begin(), stored_names.end(), [&](auto& n) { return n.type == type; });
  if (found == stored_names.end()) fail(ErrorCode::unsupported, "a state of ", dtype_name(type), " cannot be saved");
  return found->name;
}

OwnedTensor allocate_like(const Tensor& t) {
  return OwnedTensor::allocate(t.dtype, t.shape.data(), t.ndim);
}

}  // namespace

OwnedTensor OwnedTensor::allocate(DType dtype, const std::int64_t* shape, int ndim) {
  OwnedTensor out;
  out.view = Tensor::contiguous(nullptr, dtype, shape, ndim);
  const auto bytes = static_cast<std::size_t>(out.view.nbytes());
  constexpr std::size_t alignment = 64;
  const std::size_t rounded = (bytes + alignment) / alignment * alignment;  // at least one line, so never null
  auto* data = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (data == nullptr) fail(ErrorCode::out_of_memory, "cannot allocate ", bytes, " bytes");
  out.memory = std::shared_ptr<std::byte[]>(data, [](std::byte* p) { std::free(p); });
  out.view.data = data;
  return out;
}

DType stored_dtype(const StoredTensor& t) {
  const auto found = std::find_if(stored_names.begin(), stored_names.end(), [&](auto& n) { return n.name == t.dtype; });
  if (found == stored_names.end()) {
    fail(ErrorCode::unsupported, t.name, " is ", t.dtype, "; expected F32, BF16, F16, F64, I32, I64, U8 or BOOL");
  }
  return found->type;
}

std::vector<StateSpec> state_specs(const std::vector<TensorSpec>& specs) {
  std::vector<StateSpec> states;
  for (const TensorSpec& spec : specs) {
    DType type{};
    if (!dtype_from_name(spec.dtype.c_str(), type) || spec.shape.size() > kMaxDims) {
      fail(ErrorCode::corrupt, "state ", printable(spec.name), " is ", printable(spec.dtype), " of ", spec.shape.size(),
           " dims; expected a known dtype and at most ", kMaxDims, " dims");
    }
    states.push_back({spec.name, type, spec.shape});
  }
  return states;
}

void SessionStates::bind(const Symbols& symbols) {
  const bool fresh = states_.empty();
  if (fresh) states_.resize(specs_.size());
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const StateSpec& spec = specs_[i];
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

SessionStates SessionStates::copy() const {
  SessionStates other(specs_);
  for (const State& state : states_) {
    other.states_.push_back({allocate_like(state.now.view), allocate_like(state.now.view)});
    std::memcpy(other.states_.back().now.memory.get(), state.now.memory.get(),
                static_cast<std::size_t>(state.now.view.nbytes()));
  }
  return other;
}

std::vector<std::byte> SessionStates::save(std::map<std::string, std::string> metadata) const {
  std::vector<StoredTensor> tensors;
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const Tensor& t = states_[i].now.view;
    tensors.push_back({specs_[i].name,
                       stored_name(t.dtype),
                       {t.shape.begin(), t.shape.begin() + t.ndim},
                       states_[i].now.memory.get(),
                       static_cast<std::size_t>(t.nbytes())});
  }
  metadata.emplace("mambasdk_state", "1");
  return serialize_safetensors(tensors, metadata);
}

void SessionStates::restore(std::span<const std::byte> image) {
  const Safetensors saved = Safetensors::from_bytes(image, "saved state");
  const auto& metadata = saved.metadata();
  if (!metadata.contains("mambasdk_state")) fail(ErrorCode::corrupt, "this is no saved state of a session");
  if (saved.tensors().empty()) return clear();
  if (saved.tensors().size() != specs_.size()) {
    fail(ErrorCode::invalid_argument, "the saved state has ", saved.tensors().size(), " tensors, the model ",
         specs_.size(), "; it belongs to another model");
  }
  std::vector<State> made;
  Symbols symbols;
  for (const StateSpec& spec : specs_) {
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
