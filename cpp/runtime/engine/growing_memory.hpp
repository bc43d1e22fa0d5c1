// Memory that a session appends to: what it holds stays, without a second copy where the system can move its pages.
#pragma once

#include <algorithm>
#include <cstddef>

#include "core/device.hpp"

namespace mambasdk::runtime {

class GrowingMemory {
 public:
  explicit GrowingMemory(const Place& place) : place_(place) {}
  ~GrowingMemory();
  GrowingMemory(const GrowingMemory&) = delete;
  GrowingMemory& operator=(const GrowingMemory&) = delete;

  // Room for so many bytes, of which the first `kept` keep what they hold; data() may change. On the CPU a byte that
  // nothing was written to takes no memory. Error(out_of_memory), and then nothing has changed.
  void reserve(std::size_t kept, std::size_t bytes);
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  // What reserve(bytes) would have as its capacity.
  [[nodiscard]] std::size_t rounded(std::size_t bytes) const noexcept;

  // The first `bytes` belong to a snapshot too, which shares this: nobody writes there while it lives.
  void pin(std::size_t bytes) noexcept { pinned_ = std::max(pinned_, bytes); }
  void unpin() noexcept { pinned_ = 0; }
  [[nodiscard]] std::size_t pinned() const noexcept { return pinned_; }

 private:
  [[nodiscard]] bool in_pages() const noexcept;

  Place place_;
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t pinned_ = 0;
};

}  // namespace mambasdk::runtime
