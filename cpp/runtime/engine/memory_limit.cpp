#include "runtime/engine/memory_limit.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iomanip>
#include <sstream>
#include <string>

namespace mambasdk::runtime {

namespace {

// The number in a file of one line; `otherwise` where there is none ("max").
std::uint64_t number_in(const char* path, std::uint64_t otherwise) noexcept {
  std::FILE* file = std::fopen(path, "re");
  if (file == nullptr) return otherwise;
  unsigned long long value = 0;
  const bool read = std::fscanf(file, "%llu", &value) == 1;
  std::fclose(file);
  return read ? value : otherwise;
}

// "1.5 GiB (1610612736 bytes)".
std::string size_text(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto scaled = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; scaled >= 1024; ++unit) scaled /= 1024;
  const std::string exact = std::to_string(bytes) + " bytes";
  if (unit == 0) return exact;
  std::ostringstream text;
  text << std::setprecision(3) << scaled << " " << kUnits[unit] << " (" << exact << ")";
  return std::move(text).str();
}

}  // namespace

std::uint64_t default_memory_limit() noexcept {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGESIZE);
  std::uint64_t there = std::uint64_t{4} << 30;  // where the system does not say
  if (pages > 0 && page > 0) there = static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page);
#if defined(__linux__)
  there = std::min(there, number_in("/sys/fs/cgroup/memory.max", there));                    // version 2
  there = std::min(there, number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", there));  // version 1
#endif
  return there / 4 * 3;
}

void check_memory(Extent wanted, std::uint64_t limit, std::string_view what) {
  const auto bytes = static_cast<std::uint64_t>(wanted.bytes());
  if (bytes <= limit) return;
  fail(ErrorCode::out_of_memory, what, " needs ", size_text(bytes), ", the limit is ", size_text(limit),
       "; use a smaller batch or length, or load the package with a larger max_memory (mambasdk-run --memory)");
}

Extent dense_bytes(DType dtype, const std::int64_t* shape, int ndim) {
  Extent count = 1;
  bool empty = false;  // a zero makes the tensor empty, but the other extents may still not overflow
  for (int d = 0; d < ndim; ++d) {
    if (shape[d] < 0) fail(ErrorCode::invalid_argument, "a tensor with the negative extent ", shape[d], " at ", d);
    empty = empty || shape[d] == 0;
    if (shape[d] > 0) count *= shape[d];
  }
  const Extent bytes = storage_bytes(dtype, count);
  return empty ? Extent(0) : bytes;
}

}  // namespace mambasdk::runtime
