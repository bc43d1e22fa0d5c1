// Devices: what each offers to the host (memory, copies, streams), and a place on one. The CPU is a device like others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.hpp"

namespace mambasdk {

// DLPack's device types are small numbers; tables are indexed by them.
inline constexpr std::int32_t kDeviceTypes = 32;
[[nodiscard]] constexpr bool is_device_type(std::int32_t type) noexcept {
  return type > 0 && type < kDeviceTypes;
}

enum class CopyDirection : std::int32_t { to_device = 1, from_device = 2, on_device = 3 };  // MAMBASDK_COPY_*

// One type of device, of which a machine may have several (`index`). A stream is the device's own handle, null its
// default one. Work on one stream is done in order and need not be done when a call returns: host memory that a copy
// reads or writes stays until synchronize() has returned. Safe from any thread.
class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;
  [[nodiscard]] virtual Device type() const noexcept = 0;
  [[nodiscard]] virtual std::string_view name() const noexcept = 0;    // "cuda"
  [[nodiscard]] virtual std::string_view doc() const noexcept = 0;     // one sentence
  [[nodiscard]] virtual std::string_view origin() const noexcept = 0;  // "mambasdk" or the plugin's name
  [[nodiscard]] virtual int count() const noexcept = 0;

  // Aligned to 64 bytes or more, never null, for work that comes to `stream` after this. Error(out_of_memory).
  [[nodiscard]] virtual void* allocate(int index, void* stream, std::size_t bytes) const = 0;
  // Work that is on `stream` by now may still use the memory.
  virtual void release(int index, void* stream, void* data, std::size_t bytes) const noexcept = 0;
  virtual void copy(int index, void* stream, CopyDirection direction, void* to, const void* from,
                    std::size_t bytes) const = 0;
  virtual void fill(int index, void* stream, void* data, std::uint8_t byte, std::size_t bytes) const = 0;
  virtual void synchronize(int index, void* stream) const = 0;
  // Null where there is the default stream alone.
  [[nodiscard]] virtual void* make_stream(int index) const = 0;
  virtual void release_stream(int index, void* stream) const noexcept = 0;
};

// The devices of the process. The CPU is there from the start; entries stay as long as the process.
[[nodiscard]] const DeviceBackend* find_device(Device type) noexcept;
[[nodiscard]] std::vector<const DeviceBackend*> list_devices();  // by type
// Error(invalid_argument) when the type or the name is taken.
void add_device(std::unique_ptr<const DeviceBackend> device);
// Why add_device would refuse a device of this type and name; empty where it would not.
[[nodiscard]] std::string refusal_of_device(std::int32_t type, std::string_view name);

// "cpu", "cuda"; "device type 9" for one that nothing here names.
[[nodiscard]] std::string device_name(Device type);
// As errors say it: "the CPU", "cuda:1".
[[nodiscard]] std::string device_text(Device type, int index);

// Where memory lies, and the stream on which it is used.
struct Place {
  const DeviceBackend* device;
  int index = 0;
  void* stream = nullptr;

  [[nodiscard]] static Place host();
  // Error(unsupported), naming the devices that there are, where the device or the index is not one of them.
  [[nodiscard]] static Place at(Device type, int index, void* stream);

  [[nodiscard]] Device type() const noexcept { return device->type(); }
  [[nodiscard]] bool is_host() const noexcept { return device->type() == Device::cpu; }
  [[nodiscard]] void* allocate(std::size_t bytes) const { return device->allocate(index, stream, bytes); }
  void release(void* data, std::size_t bytes) const noexcept { device->release(index, stream, data, bytes); }
  void copy(CopyDirection direction, void* to, const void* from, std::size_t bytes) const {
    if (bytes > 0) device->copy(index, stream, direction, to, from, bytes);
  }
  void zero(void* data, std::size_t bytes) const {
    if (bytes > 0) device->fill(index, stream, data, 0, bytes);
  }
  void synchronize() const { device->synchronize(index, stream); }
};

}  // namespace mambasdk
