// torch's devices as the library names them, and the context of a call on one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "mambasdk/mambasdk.h"
#include "shim.hpp"

namespace mambasdk::torch_adapter {

// Throws std::runtime_error, "torch failed to ...", where a function of the shim says that it failed.
void check(AOTITorchError error, const char* what);

struct Delete {
  void operator()(AtenTensorOpaque* handle) const noexcept { shim().aoti_torch_delete_tensor_object(handle); }
};
using TensorHandle = std::unique_ptr<AtenTensorOpaque, Delete>;

inline constexpr mambasdk_device cpu_device{1, 0};

// The dispatch key of a DLPack device type, "CUDA"; null: torch has no such device.
[[nodiscard]] const char* dispatch_key(std::int32_t type);
// Nothing where the library has no number for torch's device.
[[nodiscard]] std::optional<mambasdk_device> device_of(std::int32_t torch_type, std::int32_t torch_index);
// torch's number for a type that dispatch_key knows.
[[nodiscard]] std::int32_t torch_type(std::int32_t type);

// A context on a device: torch's allocator and current stream there, torch's threads. Makes the device the current one
// while it lives. Not for the CPU, whose context is the same for all calls (cpu_context).
class DeviceContext {
 public:
  explicit DeviceContext(mambasdk_device device);
  ~DeviceContext();
  DeviceContext(const DeviceContext&) = delete;
  DeviceContext& operator=(const DeviceContext&) = delete;
  [[nodiscard]] const mambasdk_context* get() const noexcept { return &context_; }

 private:
  struct Scratch;
  struct DeleteGuard {
    void operator()(DeviceGuardOpaque* guard) const noexcept;
  };
  std::unique_ptr<DeviceGuardOpaque, DeleteGuard> guard_;
  std::unique_ptr<Scratch> scratch_;
  mambasdk_context context_{};
};

[[nodiscard]] const mambasdk_context* cpu_context();

}  // namespace mambasdk::torch_adapter
