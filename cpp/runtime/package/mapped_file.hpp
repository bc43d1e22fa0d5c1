// A whole file as bytes: read into memory of its own, or mapped.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "runtime/package/file_state.hpp"

namespace mambasdk::runtime {

class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  // Memory of its own: what happens to the file afterwards does not matter. Errors: not_found (no such file), io (not a
  // regular file, the system refused, or the file changed meanwhile), out_of_memory.
  [[nodiscard]] static MappedFile read(const std::filesystem::path& path);
  // Pages of the file itself, shared by all processes that map it. Whoever truncates the file kills those that touch a
  // page past its new end (SIGBUS). Errors: not_found, io.
  [[nodiscard]] static MappedFile map(const std::filesystem::path& path);
  // For weights: read, or mapped where the environment says MAMBASDK_WEIGHTS=map.
  [[nodiscard]] static MappedFile weights(const std::filesystem::path& path);

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(data_), size_};  // bytes may be viewed as characters
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  // For a part that nobody reads again: the system gets its whole pages back. What was read into memory of its own is
  // zero there from then on; nothing happens to bytes that are not the file's.
  void give_back(std::span<const std::byte> part) noexcept;
  // Whether bytes() are still those of the file.
  [[nodiscard]] bool is_whole() const noexcept { return whole_; }
  // Of the file before its bytes were read.
  [[nodiscard]] const FileState& state() const noexcept { return state_; }

 private:
  void release() noexcept;

  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t mapping_ = 0;  // bytes to unmap
  bool whole_ = true;
  FileState state_;
};

// Errors: as MappedFile::read.
[[nodiscard]] FileState file_state(const std::filesystem::path& path);

// A whole text file as a string, refused above `max_size` bytes (corrupt).
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path, std::size_t max_size);

// SHA-256 of a file that is read piece by piece, in hexadecimal; `state` is what it was before. Errors: as `read`.
[[nodiscard]] std::string sha256_file(const std::filesystem::path& path, FileState* state = nullptr);

}  // namespace mambasdk::runtime
