#include "runtime/package/hash_cache.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <random>
#include <span>

#include "core/error.hpp"
#include "runtime/package/sha256.hpp"

namespace mambasdk::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSmallest = std::uint64_t{1} << 20;  // smaller files are hashed faster than they are looked up
constexpr std::int64_t kSettled = 2'000'000'000;  // ns: a later change may be followed by another in one clock tick
constexpr std::size_t kNameDigits = 32;
constexpr std::size_t kMaxLine = 400;

fs::path cache_folder() {
  if (const char* root = std::getenv("XDG_CACHE_HOME"); root != nullptr && *root == '/') {
    return fs::path(root) / "mambasdk" / "hashes";
  }
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home != '/') return {};
  return fs::path(home) / ".cache" / "mambasdk" / "hashes";
}

// Empty where there is no place for it.
fs::path entry_of(const fs::path& path) {
  std::error_code error;
  const fs::path folder = cache_folder();
  const std::string real = fs::canonical(path, error).string();
  if (error || folder.empty()) return {};
  return folder / sha256_hex(std::as_bytes(std::span(real))).substr(0, kNameDigits);
}

std::string line_start(const FileState& s) {
  return concat("1 ", s.device, " ", s.inode, " ", s.size, " ", s.mtime, " ", s.ctime, " ");
}

}  // namespace

std::optional<std::string> recall_hash(const fs::path& path, const FileState& state) {
  if (state.size < kSmallest) return std::nullopt;
  const fs::path entry = entry_of(path);
  std::ifstream in(entry, std::ios::binary);
  std::string line(kMaxLine, '\0');
  in.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(static_cast<std::size_t>(in.gcount()));
  const std::string start = line_start(state);
  if (entry.empty() || !line.starts_with(start) || !line.ends_with('\n')) return std::nullopt;
  return line.substr(start.size(), line.size() - start.size() - 1);
}

void remember_hash(const fs::path& path, const FileState& state, std::string_view sha256) {
  const auto now =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch());
  if (state.size < kSmallest || now.count() - std::max(state.mtime, state.ctime) < kSettled) return;
  const fs::path entry = entry_of(path);
  if (entry.empty()) return;
  std::error_code error;
  if (fs::create_directories(entry.parent_path(), error)) {
    fs::permissions(entry.parent_path(), fs::perms::owner_all, error);
  }
  // Not on the disk before its name, which is no harm: a line that is not whole is not used.
  fs::path partial = entry;
  partial += concat(".", std::random_device()());
  std::ofstream out(partial, std::ios::binary);
  out << line_start(state) << sha256 << '\n';
  out.close();
  if (out) fs::rename(partial, entry, error);
  if (!out || error) fs::remove(partial, error);
}

}  // namespace mambasdk::runtime
