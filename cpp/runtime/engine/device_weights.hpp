// A model's weights on devices other than the CPU.
#pragma once

#include <map>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "core/device.hpp"
#include "runtime/engine/program.hpp"
#include "runtime/engine/states.hpp"

namespace mambasdk::runtime {

// Copies once for each device what the program's nodes read, and keeps it as long as the model. Safe from any thread.
class DeviceWeights {
 public:
  // `weights`: on the host, by index, each a view into one of `owners`; so are those that come back, which are only
  // valid where the nodes read them. Errors: unsupported where the device lacks a kernel for one of the nodes,
  // out_of_memory.
  [[nodiscard]] std::span<const Tensor> get(const Place& place, const Program& program, std::span<const Tensor> weights,
                                            std::span<const Tensor> owners);

 private:
  struct Copy {
    std::vector<OwnedTensor> memory;
    std::vector<Tensor> weights;
  };
  std::mutex mutex_;
  std::map<std::pair<Device, int>, Copy> copies_;
};

}  // namespace mambasdk::runtime
