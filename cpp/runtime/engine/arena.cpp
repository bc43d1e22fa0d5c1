#include "runtime/engine/arena.hpp"

#include <iterator>

namespace mambasdk::runtime {

Extent OffsetAllocator::take(Extent bytes) {
  if (bytes == Extent(0)) return end_;
  const auto found = by_size_.lower_bound({bytes, Extent(0)});
  if (found == by_size_.end()) {
    const Extent offset = end_;
    end_ += bytes;
    return offset;
  }
  const auto [size, offset] = *found;
  erase(by_offset_.find(offset));
  if (size > bytes) insert(offset + bytes, size - bytes);
  return offset;
}

void OffsetAllocator::give(Extent offset, Extent bytes) {
  if (bytes == Extent(0)) return;
  auto next = by_offset_.upper_bound(offset);
  if (next != by_offset_.begin()) {
    if (const auto previous = std::prev(next); previous->first + previous->second == offset) {
      offset = previous->first;
      bytes += previous->second;
      erase(previous);
    }
  }
  if (next != by_offset_.end() && offset + bytes == next->first) {
    bytes += next->second;
    erase(next);
  }
  insert(offset, bytes);
}

void OffsetAllocator::insert(Extent offset, Extent bytes) {
  by_offset_.emplace(offset, bytes);
  by_size_.emplace(bytes, offset);
}

void OffsetAllocator::erase(std::map<Extent, Extent>::iterator range) {
  by_size_.erase({range->second, range->first});
  by_offset_.erase(range);
}

}  // namespace mambasdk::runtime
