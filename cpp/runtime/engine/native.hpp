// The native engine: runs a package's program on the registry's operations, on the CPU or on a plugin's device. Needs
// nothing but this library.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/engine/device_weights.hpp"
#include "runtime/engine/identity.hpp"
#include "runtime/engine/plan.hpp"

namespace mambasdk::runtime {

class NativeModel final : public Model {
 public:
  // Resolves the program's weights in the file's memory and runs its `prepare` part, within options.max_memory and work
  // that is linear in the weights' bytes (work.hpp). Memory of weights that only `prepare` reads goes back.
  NativeModel(Package package, const LoadOptions& options);
  [[nodiscard]] std::vector<StateSpec> states() const override { return program_.states; }
  [[nodiscard]] std::vector<TensorSpec> outputs() const override;
  [[nodiscard]] std::unique_ptr<Session> new_session(std::unique_ptr<Context> context) const override;
  [[nodiscard]] const Program& program() const noexcept { return program_; }
  // On the device of `place`; copied there when the first session asks for them.
  [[nodiscard]] std::span<const Tensor> weights(const Place& place) const;
  // What the manifest states of an output; null where it does not list it.
  [[nodiscard]] const TensorSpec* stated(std::size_t output) const { return stated_[output]; }
  [[nodiscard]] const StateIdentity& identity() const noexcept { return identity_; }
  // Bytes for the states, activations and outputs of each session, and steps of each run.
  [[nodiscard]] std::uint64_t max_memory() const noexcept { return max_memory_; }
  [[nodiscard]] std::uint64_t max_work() const noexcept { return max_work_; }

 private:
  [[nodiscard]] const StoredTensor& stored(std::size_t weight) const;  // one that is not made by prepare
  void give_back(std::size_t weight);

  Program program_;
  Safetensors constants_;
  std::vector<Tensor> weights_;
  std::vector<bool> made_;  // by prepare; the others are stored
  std::vector<OwnedTensor> prepared_;
  mutable DeviceWeights device_weights_;
  StateIdentity identity_;
  std::vector<const TensorSpec*> stated_;  // of each output what the manifest says, where it does
  std::uint64_t max_memory_;
  std::uint64_t max_work_;
};

// Runs where its context says: on the context's device and stream, or on a stream of its own where there is none.
class NativeSession final : public Session {
 public:
  // Errors: unsupported, for a device that is not here or that lacks a kernel for one of the program's operations.
  NativeSession(std::shared_ptr<const NativeModel> model, std::unique_ptr<Context> context);
  [[nodiscard]] std::vector<OwnedTensor> run(std::span<const NamedTensor> inputs,
                                             std::span<const std::string_view> outputs) override;
  void reset() override;
  [[nodiscard]] std::unique_ptr<Session> clone() const override;
  [[nodiscard]] std::unique_ptr<Snapshot> snapshot() const override;
  void roll_back(std::unique_ptr<Snapshot> snapshot) noexcept override;
  [[nodiscard]] std::vector<std::byte> save() const override;
  void restore(std::span<const std::byte> image) override;

 private:
  static constexpr std::size_t kMaxPlans = 4;  // prompt chunk, its remainder, step, one more

  [[nodiscard]] std::vector<Tensor> ordered_inputs(std::span<const NamedTensor> inputs) const;
  [[nodiscard]] std::vector<std::size_t> wanted_outputs(std::span<const std::string_view> names) const;
  // Makes room for a plan of so many bytes beside the states, dropping plans that are kept for later.
  void make_room(Extent bytes);
  // The memory of the rows that a run of the first plan appends.
  void make_rows();
  void drop_plans(Extent needed, std::size_t kept);
  [[nodiscard]] std::vector<StateBuffers> state_buffers() const;
  Plan& plan_for(std::span<const Tensor> inputs, std::span<const std::int32_t> outputs,
                 std::span<const StateBuffers> states);

  // One that shares the context with another.
  NativeSession(std::shared_ptr<const NativeModel> model, std::shared_ptr<Context> context, SessionStates states);

  std::shared_ptr<const NativeModel> model_;
  std::shared_ptr<Context> context_;  // before what lies at its place: it may own the stream
  Place place_;
  std::span<const Tensor> weights_;
  SessionStates states_;
  std::vector<std::unique_ptr<Plan>> plans_;  // most recently used first
};

}  // namespace mambasdk::runtime
