// What was hashed before: a file whose place, size, times and inode are as they were then is not read again. One small
// file for each in the user's cache folder; mambasdk/package/hash_cache.py says what is in it, and shares it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/package/file_state.hpp"

namespace mambasdk::runtime {

// The SHA-256 that the file had in this state; nullopt where that is not known.
[[nodiscard]] std::optional<std::string> recall_hash(const std::filesystem::path& path, const FileState& state);

// Notes the hash of the file in `state`, which it must have had before it was read. A cache that cannot be written is
// as good as an empty one.
void remember_hash(const std::filesystem::path& path, const FileState& state, std::string_view sha256);

}  // namespace mambasdk::runtime
