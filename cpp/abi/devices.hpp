// Devices over the C ABI: those of plugins, and by name.
#pragma once

#include <memory>
#include <string_view>

#include "core/device.hpp"
#include "mambasdk/mambasdk.h"

namespace mambasdk::abi {

// Errors: invalid_argument for what is missing, version for a size that cannot be.
[[nodiscard]] std::unique_ptr<const DeviceBackend> wrap_device(const mambasdk_device_definition* definition,
                                                               std::string_view origin);

mambasdk_status* device_find(mambasdk_string name, mambasdk_device* device);

}  // namespace mambasdk::abi
