// Files: mapping, reading, hashing.
#include "runtime/package/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/extent.hpp"
#include "runtime/package/sha256.hpp"

namespace mambasdk::runtime {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;       // of a file that is hashed: stays in the processor's cache
constexpr std::size_t kLargest = std::size_t{1} << 30;     // that one call reads
constexpr std::size_t kMostReaders = 4;                    // threads that read one file
constexpr std::size_t kLeastPart = std::size_t{8} << 20;   // of a file that is worth a thread
constexpr std::int64_t kHugePage = std::int64_t{2} << 20;  // fewer pages to fault in, and fewer translations to look up

[[noreturn]] void fail_open(const std::filesystem::path& path, int error) {
  const ErrorCode code = (error == ENOENT || error == ENOTDIR) ? ErrorCode::not_found : ErrorCode::io;
  fail(code, "cannot open ", path.string(), ": ", std::strerror(error));
}

// A regular file, open for reading.
class OpenFile {
 public:
  // O_NONBLOCK: opening a pipe must fail below, not wait for a writer.
  explicit OpenFile(const std::filesystem::path& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) fail_open(path, errno);
    try {
      state_ = look();
    } catch (...) {
      ::close(fd_);
      throw;
    }
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() { ::close(fd_); }

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const FileState& state() const { return state_; }
  // Fills `out` from `offset` on. The file must be as long as it was.
  void read(std::span<std::byte> out, std::uint64_t offset) const {
    while (!out.empty()) {
      const ::ssize_t count = ::pread(fd_, out.data(), std::min(out.size(), kLargest), static_cast<::off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail(ErrorCode::io, "cannot read ", path_.string(), ": ", std::strerror(errno));
      if (count == 0) refuse_change();
      out = out.subspan(static_cast<std::size_t>(count));
      offset += static_cast<std::uint64_t>(count);
    }
  }
  void check_unchanged() const {
    if (look() != state_) refuse_change();
  }

 private:
  [[noreturn]] void refuse_change() const {
    fail(ErrorCode::io, path_.string(), " changed while it was read; load it again when it is whole");
  }
  [[nodiscard]] FileState look() const {
    struct stat info{};
    if (::fstat(fd_, &info) != 0) fail(ErrorCode::io, "cannot stat ", path_.string(), ": ", std::strerror(errno));
    if (!S_ISREG(info.st_mode)) fail(ErrorCode::io, path_.string(), " is not a regular file");
#if defined(__APPLE__)
    const struct timespec &mtime = info.st_mtimespec, &ctime = info.st_ctimespec;
#else
    const struct timespec &mtime = info.st_mtim, &ctime = info.st_ctim;
#endif
    const auto nanoseconds = [](const struct timespec& t) {
      return static_cast<std::int64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::int64_t>(t.tv_nsec);
    };
    return {static_cast<std::uint64_t>(info.st_dev), static_cast<std::uint64_t>(info.st_ino),
            static_cast<std::uint64_t>(info.st_size), nanoseconds(mtime), nanoseconds(ctime)};
  }

  std::filesystem::path path_;
  int fd_;
  FileState state_;
};

// Fills `out` with the file, in parts at the same time where it is large: the system clears new pages and copies into
// them as fast as one processor can, and no faster.
void read_in_parts(const OpenFile& source, std::span<std::byte> out) {
  const std::size_t readers = std::min<std::size_t>(kMostReaders, std::max(1u, std::thread::hardware_concurrency()));
  const std::size_t parts = std::max<std::size_t>(1, std::min(readers, out.size() / kLeastPart));
  std::vector<std::exception_ptr> errors(parts);
  const auto read = [&](std::size_t part) noexcept {
    const auto begin = [&](std::size_t i) { return out.size() / parts * i + std::min(i, out.size() % parts); };
    try {
      source.read(out.subspan(begin(part), begin(part + 1) - begin(part)), begin(part));
    } catch (...) {
      errors[part] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(parts);
  for (std::size_t part = 1; part < parts; ++part) {
    try {
      threads.emplace_back(read, part);
    } catch (const std::system_error&) {  // no thread to be had
      read(part);
    }
  }
  read(0);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error != nullptr) std::rethrow_exception(error);
  }
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
  mapping_ = std::exchange(other.mapping_, 0);
  whole_ = std::exchange(other.whole_, true);
  state_ = other.state_;
  return *this;
}

MappedFile::~MappedFile() {
  release();
}

void MappedFile::release() noexcept {
  if (mapping_ != 0) ::munmap(const_cast<std::byte*>(data_), mapping_);  // munmap takes a non-const pointer
  data_ = nullptr;
  size_ = mapping_ = 0;
  whole_ = true;
}

void MappedFile::give_back(std::span<const std::byte> part) noexcept {
  const auto address = [](const std::byte* p) { return reinterpret_cast<std::uintptr_t>(p); };
  const std::uintptr_t first = address(part.data()), end = first + part.size();
  if (mapping_ == 0 || first < address(data_) || end > address(data_) + size_) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t whole_first = (first + page - 1) / page * page, whole_end = end / page * page;
  if (whole_first >= whole_end) return;
  auto* begin = const_cast<std::byte*>(part.data()) + (whole_first - first);  // madvise takes a non-const pointer
  if (::madvise(begin, whole_end - whole_first, MADV_DONTNEED) == 0) whole_ = false;
}

MappedFile MappedFile::map(const std::filesystem::path& path) {
  const OpenFile source(path);
  MappedFile file;
  file.state_ = source.state();
  const std::size_t size = Extent(source.state().size).bytes();
  if (size == 0) return file;  // an empty mapping is an error on POSIX
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, source.fd(), 0);
  if (address == MAP_FAILED) {
    fail(ErrorCode::io, "cannot map ", path.string(), " (", size, " bytes): ", std::strerror(errno));
  }
  file.data_ = static_cast<const std::byte*>(address);
  file.size_ = file.mapping_ = size;
  return file;
}

MappedFile MappedFile::read(const std::filesystem::path& path) {
  const OpenFile source(path);
  MappedFile file;
  file.state_ = source.state();
  const std::size_t size = Extent(source.state().size).bytes();
  if (size == 0) return file;
  const std::size_t room = Extent(source.state().size).rounded_up(kHugePage).bytes();
  void* address = ::mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    fail(ErrorCode::out_of_memory, "no memory for ", path.string(), " (", size, " bytes)");
  }
  file.data_ = static_cast<const std::byte*>(address);
  file.mapping_ = room;
#if defined(MADV_HUGEPAGE)
  if (size >= static_cast<std::size_t>(kHugePage)) (void)::madvise(address, room, MADV_HUGEPAGE);
#endif
  read_in_parts(source, {static_cast<std::byte*>(address), size});
  source.check_unchanged();
  (void)::mprotect(address, room, PROT_READ);
  file.size_ = size;
  return file;
}

MappedFile MappedFile::weights(const std::filesystem::path& path) {
  const char* wanted = std::getenv("MAMBASDK_WEIGHTS");
  return wanted != nullptr && std::string_view(wanted) == "map" ? map(path) : read(path);
}

FileState file_state(const std::filesystem::path& path) {
  return OpenFile(path).state();
}

std::string read_text_file(const std::filesystem::path& path, std::size_t max_size) {
  const OpenFile source(path);
  if (source.state().size > max_size) {
    fail(ErrorCode::corrupt, path.string(), " has ", source.state().size, " bytes; at most ", max_size, " are read");
  }
  std::string text(static_cast<std::size_t>(source.state().size), '\0');
  source.read(std::as_writable_bytes(std::span(text)), 0);
  return text;
}

std::string sha256_file(const std::filesystem::path& path, FileState* state) {
  const OpenFile source(path);
  if (state != nullptr) *state = source.state();
  Sha256 hash;
  const std::size_t size = Extent(source.state().size).bytes();
  const auto piece = std::make_unique<std::byte[]>(std::min(size, kPiece));
  for (std::size_t at = 0; at < size; at += kPiece) {
    const std::span<std::byte> part(piece.get(), std::min(size - at, kPiece));
    source.read(part, at);
    hash.update(part);
  }
  source.check_unchanged();
  return to_hex(hash.finish());
}

}  // namespace mambasdk::runtime
