// What tells whether a file has changed since it was last looked at.
#pragma once

#include <cstdint>

namespace mambasdk::runtime {

struct FileState {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t mtime = 0;  // nanoseconds
  std::int64_t ctime = 0;
  friend bool operator==(const FileState&, const FileState&) = default;
};

}  // namespace mambasdk::runtime
