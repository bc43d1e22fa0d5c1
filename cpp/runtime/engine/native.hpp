// The native engine: runs a package's program on the registry's operations. Needs nothing but this library.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/engine/plan.hpp"

namespace mambasdk::runtime {

class NativeModel final : public Model {
 public:
  // Resolves the program's weights in the memory-mapped file and runs its `prepare` part.
  explicit NativeModel(Package package);
  [[nodiscard]] std::vector<StateSpec> states() const override { return program_.states; }
  [[nodiscard]] std::vector<TensorSpec> outputs() const override;
  [[nodiscard]] std::unique_ptr<Session> new_session(std::unique_ptr<Context> context) const override;
  [[nodiscard]] const Program& program() const noexcept { return program_; }
  [[nodiscard]] std::span<const Tensor> weights() const noexcept { return weights_; }

 private:
  Program program_;
  std::vector<Tensor> weights_;
  std::vector<OwnedTensor> prepared_;
};

class NativeSession final : public Session {
 public:
  NativeSession(std::shared_ptr<const NativeModel> model, std::unique_ptr<Context> context);
  [[nodiscard]] std::vector<OwnedTensor> run(std::span<const NamedTensor> inputs,
                                             std::span<const std::string_view> outputs) override;
  void reset() override;
  [[nodiscard]] std::unique_ptr<Session> clone() const override;
  [[nodiscard]] std::vector<std::byte> save() const override;
  void restore(std::span<const std::byte> image) override;

 private:
  static constexpr std::size_t kMaxPlans = 4;  // prompt chunk, its remainder, step, one more

  Plan& plan_for(std::span<const Tensor> inputs, std::span<const std::int32_t> outputs,
                 std::span<const StateBuffers> states);

  std::shared_ptr<const NativeModel> model_;
  std::shared_ptr<Context> context_;
  SessionStates states_;
  std::vector<std::unique_ptr<Plan>> plans_;  // most recently used first
};

}  // namespace mambasdk::runtime
