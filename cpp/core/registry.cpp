#include "core/registry.hpp"

#include <algorithm>
#include <numeric>

namespace mambasdk {

KernelTable::~KernelTable() {
  for (const auto& kernel : kernels_) delete kernel.load();
}

const Kernel* KernelTable::find(Device device) const noexcept {
  const auto type = static_cast<std::int32_t>(device);
  if (!is_device_type(type)) return nullptr;
  return kernels_[static_cast<std::size_t>(type)].load(std::memory_order_acquire);
}

std::vector<Device> KernelTable::devices() const {
  std::vector<Device> out;
  for (std::size_t type = 0; type < kernels_.size(); ++type) {
    if (kernels_[type].load(std::memory_order_acquire) != nullptr) out.push_back(static_cast<Device>(type));
  }
  return out;
}

bool KernelTable::add(Device device, Kernel kernel) {
  const auto type = static_cast<std::int32_t>(device);
  if (!is_device_type(type)) {
    fail(ErrorCode::unsupported, "a kernel for device type ", type, ", expected DLPack's number of a device, 1 to ",
         kDeviceTypes - 1);
  }
  auto made = std::make_unique<const Kernel>(std::move(kernel));
  const Kernel* none = nullptr;
  if (!kernels_[static_cast<std::size_t>(type)].compare_exchange_strong(none, made.get(), std::memory_order_acq_rel)) {
    return false;
  }
  (void)made.release();
  return true;
}

void Registry::define(const OpDefinition& definition, std::string_view origin) {
  auto op = std::make_unique<Op>();
  op->signature = Signature::parse(definition.signature);
  op->doc = std::string(definition.doc);
  op->origin = std::string(origin);
  op->check = definition.check;
  op->reference = definition.reference;
  if (definition.cpu) op->kernels.add(Device::cpu, definition.cpu);
  add(std::move(op));
}

void Registry::add(std::unique_ptr<Op> op) {
  const std::lock_guard lock(mutex_);
  const std::string name = op->signature.name;
  if (const auto found = ops_.find(name); found != ops_.end()) {
    fail(ErrorCode::invalid_argument, "operation ", name, " is already registered by ", found->second->origin, "; ",
         op->origin, " must choose another name");
  }
  Op* added = ops_.emplace(name, std::move(op)).first->second.get();
  // The derivative may come before or after the operation.
  if (const auto found = ops_.find(name + "_backward"); found != ops_.end()) added->backward = found->second.get();
  constexpr std::string_view suffix = "_backward";
  if (name.size() > suffix.size() && name.ends_with(suffix)) {
    if (const auto found = ops_.find(name.substr(0, name.size() - suffix.size())); found != ops_.end()) {
      found->second->backward = added;
    }
  }
}

void Registry::add_kernel(std::string_view name, Device device, Kernel kernel) {
  const std::lock_guard lock(mutex_);
  const auto found = ops_.find(name);
  if (found == ops_.end()) fail(ErrorCode::not_found, "kernel for unknown operation ", name);
  if (!found->second->kernels.add(device, std::move(kernel))) {
    fail(ErrorCode::invalid_argument, "operation ", name, " already has a kernel for ", device_name(device));
  }
}

const Op* Registry::find(std::string_view name) const noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = ops_.find(name);
  return found == ops_.end() ? nullptr : found->second.get();
}

namespace {

// Levenshtein distance, for "did you mean".
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace

const Op& Registry::get(std::string_view name) const {
  if (const Op* op = find(name)) return *op;
  std::string nearest;
  std::size_t best = 4;  // further away is not a typing mistake
  for (const Op* op : list()) {
    const std::size_t distance = edit_distance(name, op->signature.name);
    if (distance < best) {
      best = distance;
      nearest = op->signature.name;
    }
  }
  fail(ErrorCode::not_found, "there is no operation ", name,
       nearest.empty() ? std::string("; a plugin may bring it (see `mambasdk plugins`)")
                       : "; did you mean " + nearest + "?");
}

std::vector<const Op*> Registry::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<const Op*> out;
  out.reserve(ops_.size());
  for (const auto& [name, op] : ops_) out.push_back(op.get());
  return out;
}

}  // namespace mambasdk
