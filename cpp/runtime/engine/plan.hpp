// A program made ready for given input shapes and wanted outputs: which nodes run, every shape, where every value lies.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine/program.hpp"
#include "runtime/engine/shapes.hpp"

namespace mambasdk::runtime {

// Both sides of a state during a run: a run reads one and writes the other, so a failed run leaves the state as it was.
struct StateBuffers {
  Tensor read;
  Tensor write;
};

class Plan {
 public:
  // `states` give shapes and dtypes. Throws Error(invalid_argument) for inputs that do not fit the program, and
  // Error(corrupt) for a program whose nodes do not fit each other.
  Plan(const Program& program, std::span<const Tensor> weights, std::span<const Tensor> inputs,
       std::span<const StateBuffers> states, std::span<const std::int32_t> outputs);

  // True when this plan was made for these shapes and outputs.
  [[nodiscard]] bool fits(std::span<const Tensor> inputs, std::span<const std::int32_t> outputs) const;

  // Copies the inputs in and runs the nodes. State buffers must have the planned shapes.
  void run(const Context& context, std::span<const Tensor> inputs, std::span<const StateBuffers> states);

  [[nodiscard]] const Tensor& value(std::int32_t index) const { return values_[static_cast<std::size_t>(index)]; }
  [[nodiscard]] bool writes_state(std::size_t index) const { return state_written_[index]; }
  [[nodiscard]] std::size_t arena_bytes() const { return arena_bytes_; }

 private:
  struct Step {
    const Node* node;
    std::vector<Value> inputs;
    std::vector<Tensor> outputs;
    std::vector<std::int64_t> dims;
    std::vector<std::size_t> offsets;  // of each output in the arena; kNowhere for states and absent outputs
    bool dynamic = false;              // a view whose root is a state: its address changes from run to run
  };

  void select_nodes(std::span<const std::int32_t> outputs);
  void infer_shapes();
  void place_values(std::span<const std::int32_t> outputs);
  void bind_addresses();
  [[nodiscard]] Tensor view(const Node& node) const;
  [[nodiscard]] const Tensor* source(const Slot& slot) const;
  [[nodiscard]] std::int64_t extent(const Dimension& d) const;

  const Program& program_;
  std::span<const Tensor> weights_;
  std::vector<Tensor> inputs_;
  std::vector<std::int32_t> outputs_;
  Symbols symbols_;
  std::vector<Step> steps_;
  std::vector<Tensor> values_;
  std::vector<std::int32_t> root_;  // value -> the value that owns its memory; kState, kWeight otherwise
  std::vector<Tensor> state_read_, state_write_;
  std::vector<bool> state_written_;
  OwnedTensor arena_;
  std::size_t arena_bytes_ = 0;
};

// Runs `prepare`: fills the weights that are made from other weights; returns the memory that holds them.
std::vector<OwnedTensor> run_prepare(const Program& program, std::vector<Tensor>& weights, const Context& context);

}  // namespace mambasdk::runtime
