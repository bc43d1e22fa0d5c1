// Processors, the parts before a model. Everything between them is a named tensor.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine/engine.hpp"

namespace mambasdk::runtime {

struct NamedOutput {
  std::string name;
  OwnedTensor tensor;
};

// Named tensors that a processor, a head or a pipeline made; no name twice.
class Result {
 public:
  void add(std::string name, OwnedTensor tensor);  // Error(invalid_argument): the name is empty or taken
  void add_text(std::string name, std::string_view text);
  [[nodiscard]] const OwnedTensor* find(std::string_view name) const noexcept;
  [[nodiscard]] std::span<const NamedOutput> items() const noexcept { return items_; }
  [[nodiscard]] std::string_view json() const noexcept;  // the bytes of "json"; empty without one

 private:
  std::vector<NamedOutput> items_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

// One-dimensional u8: how bytes and text are passed. Borrows.
[[nodiscard]] Tensor text_view(std::string_view text);
// The bytes of such a tensor; Error(invalid_argument) naming `name` for another shape or dtype.
[[nodiscard]] std::string_view bytes_of(const Tensor& tensor, std::string_view name);

// An instance of a processor. One thread at a time; may keep state from run to run, which a run that throws must leave
// as it was.
class Processor {
 public:
  virtual ~Processor() = default;
  virtual void run(const Context& context, std::span<const NamedTensor> inputs, Result& result) = 0;
  virtual void reset() {}
};

}  // namespace mambasdk::runtime
