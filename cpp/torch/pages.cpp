#include "pages.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mambasdk::torch_adapter {

void prefer_large_pages([[maybe_unused]] void* data, [[maybe_unused]] std::uint64_t bytes) noexcept {
#if defined(__linux__)
  // From here on the C library maps every allocation anew, so the pages have not been touched yet.
  constexpr std::uint64_t least = std::uint64_t{32} << 20;
  constexpr std::uintptr_t page = std::uintptr_t{2} << 20;
  if (data == nullptr || bytes < least) return;
  const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(data) + page - 1) & ~(page - 1);
  const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(data) + bytes) & ~(page - 1);
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace mambasdk::torch_adapter
