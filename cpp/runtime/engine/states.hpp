// The tensors that a session carries from run to run, whatever the engine: zero at first, saved as safetensors.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.hpp"
#include "runtime/engine/shapes.hpp"
#include "runtime/package/safetensors.hpp"

namespace mambasdk::runtime {

// A contiguous tensor that owns its memory (64-byte aligned).
struct OwnedTensor {
  std::shared_ptr<std::byte[]> memory;
  Tensor view;

  static OwnedTensor allocate(DType dtype, const std::int64_t* shape, int ndim);
};

struct StateSpec {
  std::string name;
  DType dtype;
  std::vector<Dimension> shape;
};

// A manifest's states. Error: corrupt, for a dtype that there is not or a shape of too many dims.
[[nodiscard]] std::vector<StateSpec> state_specs(const std::vector<TensorSpec>& specs);

class SessionStates {
 public:
  explicit SessionStates(std::span<const StateSpec> specs) : specs_(specs) {}  // which must outlive this

  // Makes zeros where nothing is held yet. Throws Error(invalid_argument) where what is held has another shape.
  void bind(const Symbols& symbols);
  [[nodiscard]] bool empty() const noexcept { return states_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return states_.size(); }
  [[nodiscard]] const Tensor& now(std::size_t i) const { return states_[i].now.view; }    // what the next run reads
  [[nodiscard]] const Tensor& next(std::size_t i) const { return states_[i].next.view; }  // what it writes
  void advance(std::size_t i) { std::swap(states_[i].now, states_[i].next); }
  void clear() { states_.clear(); }
  [[nodiscard]] SessionStates copy() const;

  // A safetensors image of what is held; `metadata` is stored beside it.
  [[nodiscard]] std::vector<std::byte> save(std::map<std::string, std::string> metadata) const;
  // Errors: corrupt, invalid_argument (another model's); then what was held is held still.
  void restore(std::span<const std::byte> image);

 private:
  struct State {
    OwnedTensor now, next;
  };
  std::span<const StateSpec> specs_;
  std::vector<State> states_;  // empty until the first run binds the batch
};

// Element type of a safetensors dtype ("F32"). Error: unsupported, naming the tensor.
[[nodiscard]] DType stored_dtype(const StoredTensor& t);

}  // namespace mambasdk::runtime
