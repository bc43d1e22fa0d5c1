// Files: mapping, bounded reading, atomic replacement.
#include "runtime/package/mapped_file.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "core/error.hpp"

#if defined(__unix__) || defined(__APPLE__)
#define MAMBASDK_HAS_MMAP 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#define MAMBASDK_HAS_MMAP 0
#endif

namespace mambasdk::runtime {
namespace {

[[noreturn]] void fail_open(const std::filesystem::path& path, int error) {
  const ErrorCode code = (error == ENOENT || error == ENOTDIR) ? ErrorCode::not_found : ErrorCode::io;
  fail(code, "cannot open ", path.string(), ": ", std::strerror(error));
}

}  // namespace

MappedFile::MappedFile(MappedFile&& other) noexcept {
  *this = std::move(other);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this == &other) return *this;
  release();
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  mapped_ = std::exchange(other.mapped_, false);
  owned_ = std::move(other.owned_);
  return *this;
}

MappedFile::~MappedFile() {
  release();
}

#if MAMBASDK_HAS_MMAP

namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

void MappedFile::release() noexcept {
  if (mapped_) ::munmap(const_cast<std::byte*>(data_), size_);  // munmap takes a non-const pointer
  mapped_ = false;
  data_ = nullptr;
  size_ = 0;
  owned_.clear();
}

MappedFile MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe must fail below, not wait for a writer.
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) fail_open(path, errno);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) fail(ErrorCode::io, "cannot stat ", path.string(), ": ", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) fail(ErrorCode::io, path.string(), " is not a regular file");
  MappedFile file;
  file.size_ = static_cast<std::size_t>(info.st_size);
  if (file.size_ == 0) return file;  // an empty mapping is an error on POSIX
  void* address = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (address == MAP_FAILED) {
    file.size_ = 0;
    fail(ErrorCode::io, "cannot map ", path.string(), " (", info.st_size, " bytes): ", std::strerror(errno));
  }
  file.data_ = static_cast<const std::byte*>(address);
  file.mapped_ = true;
  return file;
}

#else

void MappedFile::release() noexcept {
  data_ = nullptr;
  size_ = 0;
  owned_.clear();
}

MappedFile MappedFile::open(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) fail_open(path, errno != 0 ? errno : ENOENT);
  const std::streamoff size = in.tellg();
  if (size < 0) fail(ErrorCode::io, path.string(), " is not a regular file");
  MappedFile file;
  file.owned_.resize(static_cast<std::size_t>(size));
  in.seekg(0);
  in.read(reinterpret_cast<char*>(file.owned_.data()), size);
  if (!in) fail(ErrorCode::io, "cannot read ", path.string());
  file.data_ = file.owned_.data();
  file.size_ = file.owned_.size();
  return file;
}

#endif

std::string read_text_file(const std::filesystem::path& path, std::size_t max_size) {
  const MappedFile file = MappedFile::open(path);
  if (file.size() > max_size) {
    fail(ErrorCode::corrupt, path.string(), " has ", file.size(), " bytes; at most ", max_size, " are read");
  }
  return std::string(file.text());
}

void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> content) {
  std::filesystem::path temporary = path;
  temporary += ".tmp";
  {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
    out.close();
    if (!out) {
      std::error_code ignored;
      std::filesystem::remove(temporary, ignored);
      fail(ErrorCode::io, "cannot write ", temporary.string(), ": ", std::strerror(errno));
    }
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error) fail(ErrorCode::io, "cannot rename ", temporary.string(), " to ", path.string(), ": ", error.message());
}

}  // namespace mambasdk::runtime
