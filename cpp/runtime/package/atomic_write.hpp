// Files that are replaced whole or not at all; mambasdk/atomic.py does the same in Python, under the same names.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace mambasdk::runtime {

// Replaces the content of `path`: written beside it as `.NAME.<12 hex digits>.partial`, brought to the disk, renamed
// over it. After a failure, a crash or a power cut `path` is as before or holds all of `content`. Links are followed,
// the permissions of a file that is there are kept, a device or pipe is written to directly, and what dead writers of
// the same file left behind is removed. Errors: io.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> content);

}  // namespace mambasdk::runtime
