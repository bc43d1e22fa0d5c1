// The tensors that a session carries from run to run, whatever the engine: zero at first, saved as safetensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/device.hpp"
#include "core/extent.hpp"
#include "core/tensor.hpp"
#include "runtime/engine/owned_tensor.hpp"
#include "runtime/engine/shapes.hpp"
#include "runtime/package/safetensors.hpp"

namespace mambasdk::runtime {

struct StateIdentity;

struct StateSpec {
  std::string name;
  DType dtype;
  std::vector<Dimension> shape;
};

// A manifest's states. Error: corrupt, for a dtype that there is not or a shape of too many dims.
[[nodiscard]] std::vector<StateSpec> state_specs(const std::vector<TensorSpec>& specs);

class SessionStates {
 public:
  // `specs` must outlive this, and so must the place's stream. max_memory: bytes that the states may take, both sides
  // of each counted.
  explicit SessionStates(std::span<const StateSpec> specs, std::uint64_t max_memory = UINT64_MAX,
                         const Place& place = Place::host())
      : specs_(specs), max_memory_(max_memory), place_(place) {}

  // Makes zeros where nothing is held yet. Throws Error(invalid_argument) where what is held has another shape, and
  // Error(out_of_memory) for more than max_memory; then what was held is held still.
  void bind(const Symbols& symbols);
  [[nodiscard]] bool empty() const noexcept { return states_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return states_.size(); }
  [[nodiscard]] const Tensor& now(std::size_t i) const { return states_[i].now.view; }    // what the next run reads
  [[nodiscard]] const Tensor& next(std::size_t i) const { return states_[i].next.view; }  // what it writes
  void advance(std::size_t i) { std::swap(states_[i].now, states_[i].next); }
  void clear() noexcept { states_.clear(); }
  [[nodiscard]] Extent bytes() const;  // of both sides
  [[nodiscard]] SessionStates copy() const;

  // A safetensors image of what is held; `metadata` is stored beside it.
  [[nodiscard]] std::vector<std::byte> save(std::map<std::string, std::string> metadata) const;
  // Errors: corrupt, invalid_argument (another model's, by `identity` where it is given), out_of_memory; then what was
  // held is held still.
  void restore(std::span<const std::byte> image, const StateIdentity* identity = nullptr);

 private:
  struct State {
    OwnedTensor now, next;
  };
  void check_total(Extent one_side) const;
  [[nodiscard]] State make_state(DType dtype, const std::int64_t* shape, int ndim) const;

  std::span<const StateSpec> specs_;
  std::uint64_t max_memory_;
  Place place_;
  std::vector<State> states_;  // empty until the first run binds the batch
};

// Element type of a safetensors dtype ("F32"). Error: unsupported, naming the tensor.
[[nodiscard]] DType stored_dtype(const StoredTensor& t);

}  // namespace mambasdk::runtime
