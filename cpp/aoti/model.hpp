// A package of the engine `aoti`: its compiled model with the names, shapes, weights and states of the manifest.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "aoti/compiled_model.hpp"
#include "runtime/engine/states.hpp"
#include "runtime/package/safetensors.hpp"

namespace mambasdk::aoti {

// Immutable; shared by threads.
class Model {
 public:
  // `detected_isa` is what the machine has. Errors: version (another torch), unsupported (another machine), corrupt.
  Model(const std::filesystem::path& directory, std::string_view manifest, std::string_view detected_isa);

  [[nodiscard]] const std::vector<runtime::TensorSpec>& inputs() const noexcept { return manifest_.inputs; }
  [[nodiscard]] const std::vector<runtime::TensorSpec>& outputs() const noexcept { return manifest_.outputs; }
  [[nodiscard]] const std::vector<runtime::StateSpec>& states() const noexcept { return states_; }
  [[nodiscard]] const runtime::Manifest& manifest() const noexcept { return manifest_; }
  [[nodiscard]] const CompiledModel& compiled() const noexcept { return *compiled_; }

 private:
  [[nodiscard]] Tensor weight(std::string_view name, DType wanted);

  runtime::Manifest manifest_;
  std::vector<runtime::StateSpec> states_;
  std::map<std::string, std::string, std::less<>> aliases_;  // a weight's name -> the name it is stored under
  std::vector<runtime::Safetensors> files_;
  std::vector<runtime::OwnedTensor> converted_;  // weights that are stored in another type than the model computes in
  std::unique_ptr<CompiledModel> compiled_;      // borrows all of the above
};

struct NamedTensor {
  std::string_view name;
  Tensor tensor;
};

class Session {
 public:
  explicit Session(std::shared_ptr<const Model> model) : model_(std::move(model)), states_(model_->states()) {}
  Session(const Session& other) : model_(other.model_), states_(other.states_.copy()) {}
  Session& operator=(const Session&) = delete;

  // Contiguous outputs in the order asked for; the states move on. They are unchanged if this throws.
  [[nodiscard]] std::vector<runtime::OwnedTensor> run(std::span<const NamedTensor> inputs,
                                                      std::span<const std::string_view> outputs);
  void reset() { states_.clear(); }
  [[nodiscard]] std::vector<std::byte> save() const;
  void restore(std::span<const std::byte> image) { states_.restore(image); }

 private:
  [[nodiscard]] std::vector<std::size_t> find_outputs(std::span<const std::string_view> names) const;

  std::shared_ptr<const Model> model_;
  runtime::SessionStates states_;
};

}  // namespace mambasdk::aoti
