// What an operation's author writes: a definition (signature, doc, checks, kernels), and kernels over an OpCall.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.hpp"
#include "core/isa.hpp"
#include "core/tensor.hpp"

namespace mambasdk {

struct Signature;

// Where a call runs: threads, memory, cancellation; the host's, or the runtime's own.
class Context {
 public:
  virtual ~Context() = default;
  [[nodiscard]] virtual Parallel parallel() const = 0;
  // 64-byte aligned; throws Error(out_of_memory).
  [[nodiscard]] virtual void* allocate(std::size_t bytes) const = 0;
  virtual void release(void* data, std::size_t bytes) const noexcept = 0;
  [[nodiscard]] virtual bool is_cancelled() const noexcept { return false; }
  [[nodiscard]] virtual void* stream() const noexcept { return nullptr; }
  // Where the host wants the work done: an engine may follow it, the CPU kernels do not look.
  [[nodiscard]] virtual Device device() const noexcept { return Device::cpu; }
  [[nodiscard]] virtual int device_index() const noexcept { return 0; }

  // Scratch memory that goes back when the handle dies.
  struct Release {
    const Context* context;
    std::size_t bytes;
    void operator()(std::byte* data) const noexcept { context->release(data, bytes); }
  };
  using Workspace = std::unique_ptr<std::byte[], Release>;
  [[nodiscard]] Workspace workspace(std::size_t bytes) const {
    return Workspace(static_cast<std::byte*>(allocate(bytes)), Release{this, bytes});
  }
};

[[nodiscard]] const Context& default_context();  // the runtime's own pool and aligned malloc

// One argument of a call, in signature order. An absent optional tensor is a null pointer.
union Value {
  const Tensor* tensor;
  bool flag;
  std::int64_t integer;
  double real;
};

// A checked call: dtypes, shapes and devices already agree with the signature, outputs are allocated and contiguous.
struct OpCall {
  const Signature& signature;
  const Context& context;
  std::span<const Value> inputs;
  std::span<const Tensor> outputs;     // an output that its `if` switches off has data == nullptr and numel() == 0
  std::span<const std::int64_t> dims;  // in the order of signature.dims

  [[nodiscard]] bool has(int i) const { return inputs[static_cast<std::size_t>(i)].tensor != nullptr; }
  [[nodiscard]] const Tensor& tensor(int i) const { return *inputs[static_cast<std::size_t>(i)].tensor; }
  [[nodiscard]] const Tensor* optional(int i) const { return inputs[static_cast<std::size_t>(i)].tensor; }
  [[nodiscard]] bool flag(int i) const { return inputs[static_cast<std::size_t>(i)].flag; }
  [[nodiscard]] std::int64_t integer(int i) const { return inputs[static_cast<std::size_t>(i)].integer; }
  [[nodiscard]] double real(int i) const { return inputs[static_cast<std::size_t>(i)].real; }
  [[nodiscard]] const Tensor& output(int i) const { return outputs[static_cast<std::size_t>(i)]; }
  [[nodiscard]] std::int64_t dim(std::string_view name) const;  // Error(internal) when the signature has no such dim
  [[nodiscard]] DType type(std::string_view variable) const;    // what `T` was bound to
};

using Kernel = std::function<void(const OpCall&)>;

struct OpDefinition {
  std::string_view signature;
  std::string_view doc;               // one paragraph: the formula, its source, what aliases
  void (*check)(const OpCall&) = {};  // constraints beyond the signature; throws Error(invalid_argument)
  Kernel reference = {};              // scalar, accumulates in double, every dtype of the signature
  Kernel cpu = {};                    // vectorised; f64 inputs never reach it
};

class Registry;  // core/registry.hpp: registry.define(OpDefinition{...})

}  // namespace mambasdk
