// Processors and heads: what stands before and after a model. Everything between them is a named tensor.
#pragma once

#include <functional>
#include <memory>
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
};

// One-dimensional u8: how bytes and text are passed. Borrows.
[[nodiscard]] Tensor text_view(std::string_view text);
// The bytes of such a tensor; Error(invalid_argument) naming `name` for another shape or dtype.
[[nodiscard]] std::string_view bytes_of(const Tensor& tensor, std::string_view name);

// An instance of a processor or a head. One thread at a time; may keep state from run to run.
class Processor {
 public:
  virtual ~Processor() = default;
  virtual void run(const Context& context, std::span<const NamedTensor> inputs, Result& result) = 0;
  virtual void reset() {}
};

enum class Role { processor, head };
[[nodiscard]] std::string_view role_name(Role role) noexcept;

struct ProcessorKind {
  Role role;
  std::string kind;
  std::string doc;
  std::string origin;  // "mambasdk" or the plugin's name
  // config: a JSON object; directory: the package, or empty.
  std::function<std::unique_ptr<Processor>(std::string_view config, std::string_view directory)> create;
};

// The kinds of the process: the built-in ones, and those that plugins bring. Entries live as long as the process.
[[nodiscard]] const ProcessorKind* find_processor(Role role, std::string_view kind);
[[nodiscard]] std::vector<const ProcessorKind*> list_processors(Role role);  // by kind
void add_processor(ProcessorKind kind);                                      // Error(invalid_argument) when taken

// Error(not_found) for an unknown kind, with the known ones and `hint`; else those of the kind's create.
[[nodiscard]] std::unique_ptr<Processor> create_processor(Role role, std::string_view kind, std::string_view config,
                                                          std::string_view directory, std::string_view hint = {});

}  // namespace mambasdk::runtime
