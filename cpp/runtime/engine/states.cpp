// Making, checking, saving and restoring what a session carries.
#include "runtime/engine/states.hpp"

#include <algorithm>
#include <array>

#include "core/error.hpp"
#include "runtime/engine/identity.hpp"
#include "runtime/engine/memory_limit.hpp"
#include "runtime/engine/transfer.hpp"
#include "runtime/engine/views.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

namespace {

constexpr const char* kWhat = "the session's state";

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
    states.push_back({.name = spec.name, .dtype = type, .shape = spec.shape});
  }
  return states;
}

std::vector<std::int64_t> memory_order(const StateSpec& spec) {
  std::vector<std::int64_t> order{spec.grows};
  for (std::int64_t d = 0; d < static_cast<std::int64_t>(spec.shape.size()); ++d) {
    if (d != spec.grows) order.push_back(d);
  }
  return order;
}

Tensor growing_view(const StateSpec& spec, const Tensor& like, std::int64_t rows) {
  Tensor out = like;
  out.shape[static_cast<std::size_t>(spec.grows)] = rows;
  const std::vector<std::int64_t> order = memory_order(spec);
  Extent stride = 1;
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    const auto dim = static_cast<std::size_t>(*d);
    out.strides[dim] = stride.value();
    if (*d != spec.grows) stride *= out.shape[dim];
  }
  out.data = nullptr;
  return out;
}

namespace {

std::int64_t length_of(const StateSpec& spec, const Tensor& view) {
  return view.shape[static_cast<std::size_t>(spec.grows)];
}

Extent bytes_of(const StateSpec& spec, const Tensor& view, std::int64_t rows) {
  Tensor t = view;
  if (spec.is_growing()) t.shape[static_cast<std::size_t>(spec.grows)] = rows;
  return dense_bytes(t);
}

}  // namespace

Extent SessionStates::bytes() const {
  Extent sum;
  for (const State& state : states_) {
    sum += state.rows != nullptr ? Extent(state.rows->capacity()) : dense_bytes(state.now.view) * 2;
  }
  return sum;
}

void SessionStates::bind(const Symbols& symbols) {
  const bool fresh = states_.empty();
  std::vector<std::array<std::int64_t, kMaxDims>> shapes(specs_.size());
  Extent total;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const StateSpec& spec = specs_[i];
    for (std::size_t d = 0; d < spec.shape.size(); ++d) {
      if (static_cast<int>(d) == spec.grows) {
        shapes[i][d] = fresh ? 0 : length_of(spec, now(i));
        continue;
      }
      shapes[i][d] = symbol_value(symbols, spec.shape[d]);
      if (!fresh && now(i).shape[d] != shapes[i][d]) {
        fail(ErrorCode::invalid_argument, "the session holds state for ", printable(spec.shape[d].symbol), " = ",
             now(i).shape[d], ", got inputs with ", printable(spec.shape[d].symbol), " = ", shapes[i][d],
             "; reset the session or make another");
      }
    }
    if (!spec.is_growing()) total += dense_bytes(spec.dtype, shapes[i].data(), static_cast<int>(spec.shape.size()));
  }
  if (!fresh) return;
  check_memory(total * 2, max_memory_, kWhat);
  std::vector<State> made;
  made.reserve(specs_.size());
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    made.push_back(make_state(specs_[i], shapes[i].data()));
    if (specs_[i].is_growing()) continue;
    place_.zero(made[i].now.memory.get(), dense_bytes(made[i].now.view).bytes());
  }
  states_ = std::move(made);
}

SessionStates::State SessionStates::make_state(const StateSpec& spec, const std::int64_t* shape) const {
  const int ndim = static_cast<int>(spec.shape.size());
  if (!spec.is_growing()) {
    return {OwnedTensor::allocate(spec.dtype, shape, ndim, place_),
            OwnedTensor::allocate(spec.dtype, shape, ndim, place_), nullptr};
  }
  State state{{}, {}, std::make_shared<GrowingMemory>(place_)};
  Tensor like = Tensor::contiguous(nullptr, spec.dtype, shape, ndim);
  like.device = place_.type();
  like.device_index = place_.index;
  state.now.view = state.next.view = growing_view(spec, like, length_of(spec, like));
  return state;
}

void SessionStates::advance(std::size_t i) {
  State& state = states_[i];
  if (state.rows != nullptr) {
    state.now.view = state.next.view;
  } else {
    std::swap(state.now, state.next);
  }
}

// Memory for the rows; of its own where a snapshot holds rows behind those that are kept.
void SessionStates::set_rows(State& state, std::size_t kept, std::size_t bytes) const {
  if (state.rows.use_count() == 1) state.rows->unpin();
  if (kept < state.rows->pinned()) {
    auto own = std::make_shared<GrowingMemory>(place_);
    own->reserve(0, bytes);
    place_.copy(CopyDirection::on_device, own->data(), state.rows->data(), kept);
    state.rows = std::move(own);
  } else {
    state.rows->reserve(kept, bytes);
  }
}

Extent SessionStates::bytes_after(std::span<const std::int64_t> appended) const {
  Extent sum;
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const StateSpec& spec = specs_[i];
    if (!spec.is_growing()) {
      sum += dense_bytes(now(i)) * 2;
      continue;
    }
    const Extent rows = Extent(length_of(spec, now(i))) + appended[i];
    if (rows > Extent(spec.limit)) {
      fail(ErrorCode::invalid_argument, "state ", printable(spec.name), " holds ", length_of(spec, now(i)),
           " rows and the run appends ", appended[i], "; it takes at most ", spec.limit, "; reset the session");
    }
    const std::size_t bytes = bytes_of(spec, now(i), rows.value()).bytes();
    sum += std::max(states_[i].rows->capacity(), states_[i].rows->rounded(bytes));
  }
  return sum;
}

void SessionStates::reserve(std::span<const std::int64_t> appended, std::uint64_t most) {
  Extent sum = bytes_after(appended);
  check_memory(sum, std::min(most, max_memory_), kWhat);
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const StateSpec& spec = specs_[i];
    State& state = states_[i];
    if (!spec.is_growing()) continue;
    const std::int64_t length = length_of(spec, now(i)), rows = length + appended[i];
    std::size_t bytes = bytes_of(spec, now(i), rows).bytes();
    if (const std::size_t had = state.rows->capacity(); bytes > had) {
      // Half as much again, so that growing costs a constant for each row; but no more than there is room for.
      const std::size_t ahead = std::max(state.rows->rounded(bytes), state.rows->rounded(had + had / 2));
      const Extent with = sum + (Extent(ahead) - Extent(state.rows->rounded(bytes)));
      if (static_cast<std::uint64_t>(with.value()) <= std::min(most, max_memory_)) {
        bytes = ahead;
        sum = with;
      }
    }
    set_rows(state, bytes_of(spec, now(i), length).bytes(), bytes);
    state.next.view = state.now.view;
    state.next.view.shape[static_cast<std::size_t>(spec.grows)] = rows;
  }
}

SessionStates SessionStates::copy() const {
  return copy_of(false);
}

SessionStates SessionStates::copy_of(bool shared_rows) const {
  SessionStates other(specs_, max_memory_, place_);
  other.states_.reserve(states_.size());
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const State& state = states_[i];
    const Tensor t = now(i);
    const std::size_t bytes = dense_bytes(t).bytes();
    if (state.rows != nullptr && shared_rows) {
      other.states_.push_back(state);
      state.rows->pin(bytes);
      continue;
    }
    other.states_.push_back(make_state(specs_[i], t.shape.data()));
    State& made = other.states_.back();
    if (state.rows != nullptr) set_rows(made, 0, bytes);
    place_.copy(CopyDirection::on_device, other.now(i).data, t.data, bytes);
  }
  return other;
}

std::vector<std::byte> SessionStates::save(std::map<std::string, std::string> metadata) const {
  std::vector<StoredTensor> tensors;
  std::vector<OwnedTensor> copies;
  Transfer transfer(place_);
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const Tensor t = now(i);
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
    if (spec.is_growing() && t.shape[static_cast<std::size_t>(spec.grows)] > spec.limit) {
      fail(ErrorCode::invalid_argument, "saved state ", printable(spec.name), " has ",
           t.shape[static_cast<std::size_t>(spec.grows)], " rows; the model takes at most ", spec.limit);
    }
    total += Extent(t.size) * (spec.is_growing() ? 1 : 2);
  }
  check_memory(total, max_memory_, kWhat);
  std::vector<State> made;
  made.reserve(specs_.size());
  Transfer transfer(place_);
  for (const StateSpec& spec : specs_) {
    const StoredTensor& t = saved.at(spec.name);
    made.push_back(make_state(spec, t.shape.data()));
    // It is only read.
    Tensor from = Tensor::contiguous(const_cast<std::byte*>(t.data), spec.dtype, t.shape.data(),
                                     static_cast<int>(t.shape.size()));
    if (spec.is_growing()) {
      set_rows(made.back(), 0, t.size);
      from = permute_view(from, memory_order(spec));
    }
    transfer.in(from, side(made.back(), made.back().now).data);
  }
  transfer.finish();
  states_ = std::move(made);
}

}  // namespace mambasdk::runtime
