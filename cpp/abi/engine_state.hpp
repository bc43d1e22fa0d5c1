// Saved states of engines that plugins bring, as safetensors images that say which model they belong to.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "mambasdk/mambasdk.h"
#include "runtime/engine/identity.hpp"

namespace mambasdk::abi {

// `image`: what the engine saved. Where that is a safetensors image of states already, it only gets the identity.
[[nodiscard]] std::vector<std::byte> wrap_state(std::span<const std::byte> image,
                                                const runtime::StateIdentity& identity, mambasdk_string engine);

// What the engine is given to restore: a part of `image`, or all of it. What is no image of ours (saved before states
// had an identity) goes to the engine as it is. Error: invalid_argument for another model's or engine's state.
[[nodiscard]] std::span<const std::byte> unwrap_state(std::span<const std::byte> image,
                                                      const runtime::StateIdentity& identity, mambasdk_string engine);

}  // namespace mambasdk::abi
