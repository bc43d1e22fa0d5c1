// A program made ready for given input shapes and wanted outputs: which nodes run, every shape, where every value lies.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine/profile.hpp"
#include "runtime/engine/program.hpp"
#include "runtime/engine/shapes.hpp"
#include "runtime/engine/transfer.hpp"
#include "runtime/engine/work.hpp"

namespace mambasdk::runtime {

// Both sides of a state during a run: a run reads one and writes the other, so a failed run leaves the state as it was.
// Of a state that grows both begin with the same rows; a run writes those behind.
struct StateBuffers {
  Tensor read;
  Tensor write;
};

class Plan {
 public:
  struct Limits {
    // Asked before memory is taken: bytes of activations and of the outputs' copies. Throws to refuse.
    const std::function<void(Extent)>& admit;
    std::uint64_t work;  // most steps of one run, as operation_work counts them
  };
  // Values lie at `place`, whose stream must outlive this, and so do weights and states. `states` give shapes and
  // dtypes. Throws Error(invalid_argument) for inputs that do not fit the program, Error(corrupt) for a program whose
  // nodes do not fit each other, whatever the inputs, Error(unsupported) for more than limits.work, and what
  // limits.admit throws.
  Plan(const Program& program, std::span<const Tensor> weights, std::span<const Tensor> inputs,
       std::span<const StateBuffers> states, std::span<const std::int32_t> outputs, const Limits& limits,
       const Place& place);

  // True when this plan was made for these shapes and outputs.
  [[nodiscard]] bool fits(std::span<const Tensor> inputs, std::span<const std::int32_t> outputs) const;

  // Sets the plan to the rows that states hold now; only what depends on them is planned again. False where they do not
  // fit its memory. After that, and where it throws (as the constructor), the plan is of no use any more.
  [[nodiscard]] bool follow(std::span<const StateBuffers> states);

  // Copies the inputs in and runs the nodes, all in the order of the place's stream. State buffers must have the
  // planned shapes.
  void run(const Context& context, Transfer& transfer, std::span<const Tensor> inputs,
           std::span<const StateBuffers> states);

  [[nodiscard]] const Tensor& value(std::int32_t index) const { return values_[static_cast<std::size_t>(index)]; }
  [[nodiscard]] bool writes_state(std::size_t index) const { return state_written_[index]; }
  // Rows that a run appends to each state.
  [[nodiscard]] std::span<const std::int64_t> appended() const { return appended_; }
  [[nodiscard]] Extent memory() const { return memory_; }  // what `admit` was asked for
  [[nodiscard]] const Symbols& symbols() const { return symbols_; }

 private:
  struct Step {
    const Node* node;
    std::vector<Value> inputs{};
    std::vector<Tensor> outputs{};  // of an append the rows in the state's memory
    std::vector<std::int64_t> dims{};
    std::vector<std::int64_t> offsets{};  // of each output in the arena; kNowhere for states and absent outputs
    std::vector<Extent> room{};           // what each has there
    Tensor rows{};                        // of an append: what comes, in the state's order of dims
    std::uint64_t work = 0;
    bool dynamic = false;    // a view whose root is a state: its address changes from run to run
    bool by_length = false;  // it names the rows of a state that grows, or takes such a state
  };
  static constexpr std::int32_t kState = -2, kWeight = -3;  // roots that are no value
  static constexpr std::int64_t kNowhere = -1;
  static constexpr std::int64_t kAlignment = 64;
  using Lengths = std::vector<std::int64_t>;  // of the program's symbols from first_length on

  [[nodiscard]] static Extent aligned_bytes(const Tensor& t);
  void select_nodes(std::span<const std::int32_t> outputs);
  [[nodiscard]] bool depends_on_length(const Node& node) const;
  [[nodiscard]] Lengths lengths_of(std::span<const StateBuffers> states) const;
  [[nodiscard]] Lengths lengths_to_come() const;
  void set_lengths(const Lengths& lengths);
  void infer_shapes();
  void infer(Step& step);
  void infer_view(Step& step);
  void infer_append(Step& step);
  void check_appended() const;
  void check_work() const;
  [[nodiscard]] bool follow_lengths(const Lengths& lengths);
  [[nodiscard]] bool infer_again(Step& step, std::vector<bool>& changed);
  [[nodiscard]] bool place_with_room(std::span<const std::int32_t> outputs, const Limits& limits, const Place& place);
  void append_rows(const Context& context, Step& step);
  void place_values(std::span<const std::int32_t> outputs, const Limits& limits, const Place& place);
  void bind_addresses();
  void start_profile();
  [[noreturn]] void refuse_node(const Node& node, const Error& e) const;
  [[nodiscard]] Tensor view(const Node& node) const;
  [[nodiscard]] const Tensor* source(const Slot& slot) const;
  [[nodiscard]] std::int64_t amount(const Amount& a) const;

  const Program& program_;
  std::span<const Tensor> weights_;
  std::vector<Tensor> inputs_;
  std::vector<std::int32_t> outputs_;
  Symbols symbols_;
  std::vector<std::int64_t> extents_;  // of the program's symbols
  std::vector<Step> steps_;
  std::vector<Tensor> values_;
  std::vector<std::int32_t> root_;  // value -> the value that owns its memory; kState, kWeight otherwise
  std::vector<Tensor> state_read_, state_write_;
  std::vector<bool> state_written_;
  std::vector<std::int64_t> appended_;
  Lengths lengths_, room_;  // now, and the longest that the memory was made for
  std::uint64_t most_work_;
  OwnedTensor arena_;
  Extent memory_;
  std::unique_ptr<Profile> profile_;
};

}  // namespace mambasdk::runtime
