// Read-only view of a whole file: memory-mapped where the system can, read into memory elsewhere.
// The file must not be truncated while it is mapped.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mambasdk::runtime {

class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  // Errors: not_found (no such file), io (not a regular file, or the system refused).
  [[nodiscard]] static MappedFile open(const std::filesystem::path& path);

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(data_), size_};  // bytes may be viewed as characters
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  void release() noexcept;

  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  bool mapped_ = false;
  std::vector<std::byte> owned_;
};

// A whole text file as a string, refused above `max_size` bytes (corrupt).
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path, std::size_t max_size);

// Replaces `path` with `content` in one step: written beside it, then renamed over it. Errors: io.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> content);

}  // namespace mambasdk::runtime
