// Engines that plugins bring: the C definition as the runtime's Model and Session.
#pragma once

#include "mambasdk/mambasdk.h"
#include "runtime/engine/engine.hpp"

namespace mambasdk::abi {

// Errors: version, invalid_argument.
[[nodiscard]] runtime::Engine wrap_engine(const mambasdk_engine_definition* definition, std::string_view origin);

// Loads the plugin of an engine that ships with the SDK (`aoti`) from the folder of this library, where it is there.
void load_bundled_engine(std::string_view name);

}  // namespace mambasdk::abi
