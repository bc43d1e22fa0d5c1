// The library inside a `.pt2`: loaded, given its weights, run. Its C functions are AOTInductor's container interface.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aoti/libtorch.hpp"
#include "core/tensor.hpp"

namespace mambasdk::aoti {

// A weight by its name in the model. Contiguous; must live as long as the model.
using FindWeight = std::function<Tensor(std::string_view name, DType wanted)>;

class CompiledModel {
 public:
  // `archive` is the path of the .pt2. The library stays in the process for good; loading the same one again uses it
  // again. Errors: corrupt, unsupported, io, and those of `find_weight`.
  CompiledModel(const std::filesystem::path& archive, const FindWeight& find_weight);
  ~CompiledModel();
  CompiledModel(const CompiledModel&) = delete;
  CompiledModel& operator=(const CompiledModel&) = delete;

  [[nodiscard]] std::size_t input_count() const noexcept { return input_count_; }
  [[nodiscard]] std::size_t output_count() const noexcept { return output_count_; }
  // Contiguous inputs in the graph's order; results in its order. May be called by several threads.
  [[nodiscard]] std::vector<TensorHandle> run(std::span<const Tensor> inputs) const;

  struct Functions;

 private:
  void load_weights(const FindWeight& find_weight);

  const Functions* functions_ = nullptr;
  void* container_ = nullptr;
  std::size_t input_count_ = 0;
  std::size_t output_count_ = 0;
  std::vector<TensorHandle> weights_;  // which the container only borrows
};

}  // namespace mambasdk::aoti
