// What is in this process: components that the host declared, plugins that were loaded; and the description of all.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "mambasdk/mambasdk.h"

namespace mambasdk::abi {

mambasdk_string runtime_describe();
mambasdk_status* component_declare(mambasdk_string name, mambasdk_string version);

[[nodiscard]] std::optional<std::string> component_version(std::string_view name);
void add_plugin_description(std::string json);

}  // namespace mambasdk::abi
