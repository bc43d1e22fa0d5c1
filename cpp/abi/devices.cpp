#include "abi/devices.hpp"

#include <charconv>
#include <string>

#include "abi/convert.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::abi {

namespace {

class PluginDevice final : public DeviceBackend {
 public:
  PluginDevice(const mambasdk_device_definition& definition, std::string_view origin)
      : d_(definition), name_(view(d_.name)), doc_(view(d_.doc)), origin_(origin) {}

  [[nodiscard]] Device type() const noexcept override { return static_cast<Device>(d_.type); }
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] std::string_view doc() const noexcept override { return doc_; }
  [[nodiscard]] std::string_view origin() const noexcept override { return origin_; }
  [[nodiscard]] int count() const noexcept override { return d_.count(d_.self); }

  [[nodiscard]] void* allocate(int index, void* stream, std::size_t bytes) const override {
    void* data = d_.allocate(d_.self, index, stream, bytes > 0 ? bytes : 1);
    if (data == nullptr) {
      fail(ErrorCode::out_of_memory, device_text(type(), index), " has no memory for ", bytes,
           " bytes; use a smaller batch or length, or close other sessions");
    }
    return data;
  }
  void release(int index, void* stream, void* data, std::size_t bytes) const noexcept override {
    d_.release(d_.self, index, stream, data, bytes > 0 ? bytes : 1);
  }
  void copy(int index, void* stream, CopyDirection direction, void* to, const void* from,
            std::size_t bytes) const override {
    check_status(d_.copy(d_.self, index, stream, static_cast<std::int32_t>(direction), to, from, bytes));
  }
  void fill(int index, void* stream, void* data, std::uint8_t byte, std::size_t bytes) const override {
    check_status(d_.fill(d_.self, index, stream, data, byte, bytes));
  }
  void synchronize(int index, void* stream) const override { check_status(d_.synchronize(d_.self, index, stream)); }
  [[nodiscard]] void* make_stream(int index) const override {
    void* stream = nullptr;
    if (d_.stream_create != nullptr) check_status(d_.stream_create(d_.self, index, &stream));
    return stream;
  }
  void release_stream(int index, void* stream) const noexcept override {
    if (d_.stream_release != nullptr && stream != nullptr) d_.stream_release(d_.self, index, stream);
  }

 private:
  mambasdk_device_definition d_;
  std::string name_, doc_, origin_;  // the definition's own text may go
};

}  // namespace

std::unique_ptr<const DeviceBackend> wrap_device(const mambasdk_device_definition* definition,
                                                 std::string_view origin) {
  const auto d = read_struct(definition, sizeof(mambasdk_device_definition), "device definition");
  const std::string_view name = checked_text(d.name, "the device's name");
  (void)checked_text(d.doc, "the device's doc");
  if (const std::string refused = refusal_of_device(d.type, name); !refused.empty()) {
    fail(ErrorCode::invalid_argument, refused);
  }
  if (d.count == nullptr || d.allocate == nullptr || d.release == nullptr || d.copy == nullptr || d.fill == nullptr ||
      d.synchronize == nullptr) {
    fail(ErrorCode::invalid_argument, "device ", name,
         " lacks one of count, allocate, release, copy, fill, synchronize");
  }
  if ((d.stream_create == nullptr) != (d.stream_release == nullptr)) {
    fail(ErrorCode::invalid_argument, "device ", name, " has only one of stream_create and stream_release");
  }
  return std::make_unique<const PluginDevice>(d, origin);
}

mambasdk_status* device_find(mambasdk_string name, mambasdk_device* device) {
  return guard("device_find", [&] {
    require(device, "device");
    const std::string_view wanted = checked_text(name, "the device's name");
    const std::size_t colon = wanted.find(':');
    int index = 0;
    if (colon != wanted.npos) {
      const std::string_view digits = wanted.substr(colon + 1);
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
      if (error != std::errc() || end != digits.data() + digits.size()) {
        fail(ErrorCode::invalid_argument, "the device \"", runtime::printable(wanted),
             "\", expected a name and an index, as cuda:1");
      }
    }
    std::string there;
    for (const DeviceBackend* found : list_devices()) {
      there += concat(there.empty() ? "" : ", ", found->name());
      if (found->name() != wanted.substr(0, colon)) continue;
      (void)Place::at(found->type(), index, nullptr);
      *device = {static_cast<std::int32_t>(found->type()), index};
      return;
    }
    fail(ErrorCode::not_found, "there is no device \"", runtime::printable(wanted), "\" here (there is: ", there,
         "); load the plugin that brings it");
  });
}

}  // namespace mambasdk::abi
