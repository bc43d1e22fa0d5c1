// Engines that ship with the SDK as plugins of their own.
#pragma once

#include <string_view>

namespace mambasdk::abi {

// Loads the plugin of the engine `name` (there is `aoti`) from the folder of this library, where it is there.
void load_bundled_engine(std::string_view name);

}  // namespace mambasdk::abi
