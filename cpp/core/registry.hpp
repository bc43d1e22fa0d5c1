// A table of operations. Definitions come from cpp/ops (see ops/builtin.hpp for the process-wide table) and from
// plugins.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/call.hpp"
#include "core/device.hpp"
#include "core/op.hpp"
#include "core/signature.hpp"

namespace mambasdk {

enum class KernelChoice : std::int32_t { automatic = 0, reference = 1 };

// Kernels by type of device. One may come while others run, and stays once it is there.
class KernelTable {
 public:
  KernelTable() = default;
  KernelTable(const KernelTable&) = delete;
  KernelTable& operator=(const KernelTable&) = delete;
  ~KernelTable();
  [[nodiscard]] const Kernel* find(Device device) const noexcept;
  [[nodiscard]] std::vector<Device> devices() const;
  bool add(Device device, Kernel kernel);  // false: there is one

 private:
  std::array<std::atomic<const Kernel*>, kDeviceTypes> kernels_{};
};

struct Op {
  Signature signature;
  std::string doc;
  std::string origin;  // "mambasdk" or the plugin's name
  std::function<void(const OpCall&)> check;
  Kernel reference;
  KernelTable kernels;
  std::atomic<const Op*> backward = nullptr;  // `<name>_backward`; may come later

  // Shapes and dtypes of the outputs for these inputs; data stays null. Throws Error(invalid_argument).
  struct Plan {
    std::vector<std::int64_t> dims;
    std::vector<Tensor> outputs;
  };
  [[nodiscard]] Plan plan(std::span<const Value> inputs) const;

  // Checks everything, then runs a kernel. `outputs` are the caller's, with the planned shapes.
  void call(const Context& context, std::span<const Value> inputs, std::span<const Tensor> outputs,
            KernelChoice choice = KernelChoice::automatic) const;

  // The second half of `call`, for who has planned before: value checks and the kernel. `request` must be as planned.
  void execute(const OpCall& request, KernelChoice choice = KernelChoice::automatic) const;
};

class Registry {
 public:
  void define(const OpDefinition& definition, std::string_view origin = "mambasdk");
  template <const Declaration& kOp>
  void define(const DefinitionOf<kOp>& definition) {
    const auto kernel = [](void (*f)(const CallOf<kOp>&)) -> Kernel {
      if (f == nullptr) return {};
      return [f](const OpCall& call) { f(CallOf<kOp>(call)); };
    };
    define({.signature = DeclarationText<kOp>::view,
            .doc = definition.doc,
            .check = kernel(definition.check),
            .reference = kernel(definition.reference),
            .cpu = kernel(definition.cpu)});
  }
  void add(std::unique_ptr<Op> op);  // Error(invalid_argument) when the name is taken
  void add_kernel(std::string_view name, Device device, Kernel kernel);
  [[nodiscard]] const Op& get(std::string_view name) const;  // Error(not_found) with the nearest names
  [[nodiscard]] const Op* find(std::string_view name) const noexcept;
  [[nodiscard]] std::vector<const Op*> list() const;  // by name

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Op>, std::less<>> ops_;
};

}  // namespace mambasdk
