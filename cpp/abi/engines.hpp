// Engines that plugins bring: the C definition as the runtime's Model and Session.
#pragma once

#include "mambasdk/mambasdk.h"
#include "runtime/engine/engines.hpp"

namespace mambasdk::abi {

// Errors: version, invalid_argument.
[[nodiscard]] runtime::Engine wrap_engine(const mambasdk_engine_definition* definition, std::string_view origin);

}  // namespace mambasdk::abi
