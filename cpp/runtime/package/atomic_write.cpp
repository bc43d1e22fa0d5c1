// A writer holds a lock on its temporary file, so that others can tell it from one that a dead writer left.
#include "runtime/package/atomic_write.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <string_view>

#include "core/error.hpp"

namespace mambasdk::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kNameLimit = 180;  // of the target's name within a temporary one; file systems allow 255 bytes
constexpr std::size_t kRandomDigits = 12;
constexpr std::string_view kPartial = ".partial";

[[noreturn]] void fail_io(const char* what, const fs::path& path) {
  const int error = errno;
  fail(ErrorCode::io, "cannot ", what, " ", path.string(), ": ", std::strerror(error));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

std::string prefix(const fs::path& target) {
  return concat(".", target.filename().string().substr(0, kNameLimit), ".");
}

std::string ending(const fs::path& target) {
  return concat(kPartial, target.extension().string());
}

void sweep(const fs::path& target) {
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  const std::string start = prefix(target), end = ending(target);
  std::error_code error;
  for (fs::directory_iterator at(folder, error), last; !error && at != last; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name.size() != start.size() + kRandomDigits + end.size() || !name.starts_with(start) || !name.ends_with(end)) {
      continue;
    }
    if (name.substr(start.size(), kRandomDigits).find_first_not_of("0123456789abcdef") != std::string::npos) continue;
    const Descriptor left(::open(at->path().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (left.get() >= 0 && ::flock(left.get(), LOCK_EX | LOCK_NB) == 0) ::unlink(at->path().c_str());
  }
}

std::string random_digits() {
  std::random_device source;
  std::string digits;
  while (digits.size() < kRandomDigits) digits += "0123456789abcdef"[source() & 15u];
  return digits;
}

// A new, locked file beside the target. The path stays empty on failure.
int create(const fs::path& target, fs::path& partial) {
  while (true) {
    partial = target;
    partial.replace_filename(concat(prefix(target), random_digits(), ending(target)));
    const int fd = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) continue;
    if (fd < 0) fail_io("create", partial);
    (void)::flock(fd, LOCK_EX | LOCK_NB);  // without locks nobody sweeps either
    struct stat info{};
    if (::fstat(fd, &info) == 0 && info.st_nlink != 0) return fd;
    ::close(fd);  // swept before it was locked
  }
}

void write_all(int fd, std::span<const std::byte> content, const fs::path& path) {
  while (!content.empty()) {
    const ::ssize_t written = ::write(fd, content.data(), std::min<std::size_t>(content.size(), std::size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_io("write", path);
    content = content.subspan(static_cast<std::size_t>(written));
  }
}

void sync_folder(const fs::path& folder) {
  const Descriptor fd(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) fail_io("open", folder);
  if (::fsync(fd.get()) != 0 && errno != EINVAL && errno != ENOTSUP) fail_io("sync", folder);
}

}  // namespace

void write_file_atomically(const fs::path& path, std::span<const std::byte> content) {
  std::error_code error;
  const fs::path target = fs::weakly_canonical(path, error);
  if (error) fail(ErrorCode::io, "cannot write ", path.string(), ": ", error.message());
  struct stat there{};
  const bool exists = ::stat(target.c_str(), &there) == 0;
  if (exists && !S_ISREG(there.st_mode)) {
    const Descriptor fd(::open(target.c_str(), O_WRONLY | O_CLOEXEC));
    if (fd.get() < 0) fail_io("write", target);
    return write_all(fd.get(), content, target);
  }
  sweep(target);
  fs::path partial;
  const Descriptor fd(create(target, partial));
  try {
    if (exists && ::fchmod(fd.get(), there.st_mode & 07777) != 0) fail_io("set the permissions of", partial);
    write_all(fd.get(), content, partial);
    if (::fsync(fd.get()) != 0) fail_io("sync", partial);
    if (std::rename(partial.c_str(), target.c_str()) != 0) fail_io("replace", target);
  } catch (...) {
    ::unlink(partial.c_str());
    throw;
  }
  sync_folder(target.parent_path());
}

}  // namespace mambasdk::runtime
