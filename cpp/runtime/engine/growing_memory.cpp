#include "runtime/engine/growing_memory.hpp"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "core/error.hpp"

namespace mambasdk::runtime {

namespace {
constexpr std::size_t kPage = 4096;  // a multiple of it is a multiple of every line of memory
}

// Elsewhere, and on devices, what is held is copied into a larger block.
bool GrowingMemory::in_pages() const noexcept {
#ifdef __linux__
  return place_.is_host();
#else
  return false;
#endif
}

std::size_t GrowingMemory::rounded(std::size_t bytes) const noexcept {
  return (bytes + kPage - 1) / kPage * kPage;
}

GrowingMemory::~GrowingMemory() {
  if (data_ == nullptr) return;
#ifdef __linux__
  if (in_pages()) {
    ::munmap(data_, capacity_);
    return;
  }
#endif
  place_.release(data_, capacity_);
}

void GrowingMemory::reserve(std::size_t kept, std::size_t bytes) {
  if (bytes <= capacity_) return;
  if (bytes > PTRDIFF_MAX - kPage) fail(ErrorCode::out_of_memory, "cannot allocate ", bytes, " bytes");
  bytes = rounded(bytes);
#ifdef __linux__
  if (in_pages()) {
    void* made = data_ == nullptr ? ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                                  : ::mremap(data_, capacity_, bytes, MREMAP_MAYMOVE);
    if (made == MAP_FAILED) fail(ErrorCode::out_of_memory, "cannot allocate ", bytes, " bytes");
    data_ = static_cast<std::byte*>(made);
    capacity_ = bytes;
    return;
  }
#endif
  auto* made = static_cast<std::byte*>(place_.allocate(bytes));
  try {
    place_.copy(CopyDirection::on_device, made, data_, kept);
  } catch (...) {
    place_.release(made, bytes);
    throw;
  }
  if (data_ != nullptr) place_.release(data_, capacity_);
  data_ = made;
  capacity_ = bytes;
}

}  // namespace mambasdk::runtime
