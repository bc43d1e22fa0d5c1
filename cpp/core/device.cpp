#include "core/device.hpp"

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>

#include "core/error.hpp"

namespace mambasdk {

namespace {

class Cpu final : public DeviceBackend {
 public:
  [[nodiscard]] Device type() const noexcept override { return Device::cpu; }
  [[nodiscard]] std::string_view name() const noexcept override { return "cpu"; }
  [[nodiscard]] std::string_view doc() const noexcept override { return "The processor that runs this program."; }
  [[nodiscard]] std::string_view origin() const noexcept override { return "mambasdk"; }
  [[nodiscard]] int count() const noexcept override { return 1; }

  [[nodiscard]] void* allocate(int, void*, std::size_t bytes) const override {
    constexpr std::size_t alignment = 64;
    // At least one line, so never null.
    void* data = bytes > std::numeric_limits<std::size_t>::max() / 2
                     ? nullptr
                     : std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
    if (data == nullptr) fail(ErrorCode::out_of_memory, "cannot allocate ", bytes, " bytes");
    return data;
  }
  void release(int, void*, void* data, std::size_t) const noexcept override { std::free(data); }
  void copy(int, void*, CopyDirection, void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
  void fill(int, void*, void* data, std::uint8_t byte, std::size_t bytes) const override {
    std::memset(data, byte, bytes);
  }
  void synchronize(int, void*) const override {}
  [[nodiscard]] void* make_stream(int) const override { return nullptr; }
  void release_stream(int, void*) const noexcept override {}
};

struct Devices {
  std::mutex mutex;  // of additions
  std::array<std::atomic<const DeviceBackend*>, kDeviceTypes> by_type{};
  Devices() { by_type[static_cast<std::size_t>(Device::cpu)] = new Cpu; }
};

Devices& devices() {
  static auto* made = new Devices;  // never deleted: memory of static objects may be released later
  return *made;
}

}  // namespace

const DeviceBackend* find_device(Device type) noexcept {
  const auto number = static_cast<std::int32_t>(type);
  if (!is_device_type(number)) return nullptr;
  return devices().by_type[static_cast<std::size_t>(number)].load(std::memory_order_acquire);
}

std::vector<const DeviceBackend*> list_devices() {
  std::vector<const DeviceBackend*> out;
  for (const auto& entry : devices().by_type) {
    if (const DeviceBackend* device = entry.load(std::memory_order_acquire)) out.push_back(device);
  }
  return out;
}

std::string refusal_of_device(std::int32_t type, std::string_view name) {
  if (!is_device_type(type)) {
    return concat("device type ", type, ", expected DLPack's number of a device, from 1 to ", kDeviceTypes - 1);
  }
  if (name.empty()) return "a device must have a name, as cuda";
  for (const DeviceBackend* there : list_devices()) {
    if (static_cast<std::int32_t>(there->type()) == type || there->name() == name) {
      return concat("device ", name, " (type ", type, ") is already registered by ", there->origin(), " as ",
                    there->name(), " (type ", static_cast<int>(there->type()), ")");
    }
  }
  return {};
}

void add_device(std::unique_ptr<const DeviceBackend> device) {
  Devices& table = devices();
  const std::lock_guard lock(table.mutex);
  const auto type = static_cast<std::int32_t>(device->type());
  if (const std::string refused = refusal_of_device(type, device->name()); !refused.empty()) {
    fail(ErrorCode::invalid_argument, refused);
  }
  table.by_type[static_cast<std::size_t>(type)].store(device.release(), std::memory_order_release);
}

std::string device_name(Device type) {
  if (const DeviceBackend* device = find_device(type)) return std::string(device->name());
  return type == Device::cuda ? "cuda" : concat("device type ", static_cast<int>(type));
}

std::string device_text(Device type, int index) {
  return type == Device::cpu ? "the CPU" : concat(device_name(type), ":", index);
}

Place Place::host() {
  return {find_device(Device::cpu), 0, nullptr};
}

Place Place::at(Device type, int index, void* stream) {
  const DeviceBackend* device = find_device(type);
  if (device == nullptr) {
    std::string there;
    for (const DeviceBackend* d : list_devices()) there += concat(there.empty() ? "" : ", ", d->name());
    fail(ErrorCode::unsupported, "there is no ", device_name(type), " here (there is: ", there,
         "); load the plugin that brings it, or run on the CPU");
  }
  if (const int count = device->count(); index < 0 || index >= count) {
    fail(ErrorCode::unsupported, "there is no ", device_text(type, index), ": this machine has ", count, " of ",
         device->name());
  }
  return {device, index, stream};
}

}  // namespace mambasdk
