#include "runtime/engine/device_weights.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace mambasdk::runtime {

namespace {

void check_kernels(const Place& place, const Program& program) {
  for (const Node& node : program.nodes) {
    if (node.op == nullptr || node.op->kernels.find(place.type()) != nullptr) continue;
    std::string there;
    for (const Device device : node.op->kernels.devices()) there += (there.empty() ? "" : ", ") + device_name(device);
    fail(ErrorCode::unsupported, "program.json, nodes[", &node - program.nodes.data(), "] (", node.op->signature.name,
         "): there is no kernel for ", device_name(place.type()), "; there is: ", there.empty() ? "none" : there,
         "; run the session on the CPU, or load a plugin with that kernel");
  }
}

// A part of the host's memory and its copy.
struct Range {
  const std::byte* begin;
  std::size_t bytes;
  OwnedTensor* copy = nullptr;

  [[nodiscard]] bool holds(const void* data) const {
    const auto* at = static_cast<const std::byte*>(data);
    return at >= begin && at < begin + bytes;
  }
};

}  // namespace

std::span<const Tensor> DeviceWeights::get(const Place& place, const Program& program, std::span<const Tensor> weights,
                                           std::span<const Tensor> owners) {
  const std::lock_guard lock(mutex_);
  const auto found = copies_.find({place.type(), place.index});
  if (found != copies_.end()) return found->second.weights;
  check_kernels(place, program);
  std::vector<Range> ranges;
  for (const Tensor& t : owners) {
    if (t.numel() > 0) ranges.push_back({t.ptr<std::byte>(), static_cast<std::size_t>(t.nbytes())});
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  // On the default stream: sessions on any stream use them, and they may outlive each of those.
  const Place kept{place.device, place.index, nullptr};
  Copy made;
  made.memory.reserve(ranges.size());
  made.weights.resize(weights.size());
  for (const Node& node : program.nodes) {
    for (const Slot& slot : node.inputs) {
      if (slot.kind != Slot::Kind::weight) continue;
      const auto index = static_cast<std::size_t>(slot.index);
      Tensor& weight = made.weights[index];
      if (weight.device == kept.type()) continue;  // done
      weight = weights[index];
      weight.device = kept.type();
      weight.device_index = kept.index;
      if (weight.numel() == 0) continue;
      auto range = std::upper_bound(ranges.begin(), ranges.end(), weight.data,
                                    [](const void* data, const Range& r) { return data < r.begin; });
      if (range == ranges.begin() || !(--range)->holds(weight.data)) {
        fail(ErrorCode::internal, "the weight ", program.weights[index], " lies outside the weights' memory");
      }
      if (range->copy == nullptr) {
        const auto bytes = static_cast<std::int64_t>(range->bytes);
        made.memory.push_back(OwnedTensor::allocate(dtype::u8, &bytes, 1, kept));
        range->copy = &made.memory.back();
        kept.copy(CopyDirection::to_device, range->copy->view.data, range->begin, range->bytes);
      }
      weight.data = range->copy->view.ptr<std::byte>() + (static_cast<const std::byte*>(weight.data) - range->begin);
    }
  }
  kept.synchronize();
  return copies_.emplace(std::pair(place.type(), place.index), std::move(made)).first->second.weights;
}

}  // namespace mambasdk::runtime
