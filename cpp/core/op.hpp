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

// Where a call runs: device, stream, threads, memory, cancellation; the host's, or the runtime's own.
class Context {
 public:
  virtual ~Context() = default;
  [[nodiscard]] virtual Parallel parallel() const = 0;
  // On device(), 64-byte aligned, in the order of stream(); throws Error(out_of_memory).
  [[nodiscard]] virtual void* allocate(std::size_t bytes) const = 0;
  virtual void release(void* data, std::size_t bytes) const noexcept = 0;
  [[nodiscard]] virtual bool is_cancelled() const noexcept { return false; }
  // The device's own handle; null is its default stream.
  [[nodiscard]] virtual void* stream() const noexcept { return nullptr; }
  [[nodiscard]] virtual Device device() const noexcept { return Device::cpu; }
  [[nodiscard]] virtual int device_index() const noexcept { return 0; }
  // For work of some length: where the host named a device but no stream, makes one, which lives as long as this.
  virtual void make_stream() {}

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
// Where the tensors are on another device than the CPU, nothing but that device's kernel may follow their pointers.
// Kernels read it by names: core/call.hpp.
struct OpCall {
  const Signature& signature;
  const Context& context;
  std::span<const Value> inputs;
  std::span<const Tensor> outputs;     // an output that its `if` switches off has data == nullptr and numel() == 0
  std::span<const std::int64_t> dims;  // in the order of signature.dims
};

using Kernel = std::function<void(const OpCall&)>;

struct OpDefinition {
  std::string_view signature;
  std::string_view doc;   // one paragraph: the formula, its source, what aliases
  Kernel check = {};      // constraints beyond the signature; throws Error(invalid_argument)
  Kernel reference = {};  // scalar, accumulates in double, every dtype of the signature
  Kernel cpu = {};        // vectorised; f64 inputs never reach it
};

class Registry;  // core/registry.hpp: registry.define(OpDefinition{...})

}  // namespace mambasdk
