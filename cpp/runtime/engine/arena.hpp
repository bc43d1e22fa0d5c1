// Where values of a plan lie in one block of memory: offsets are given out and come back before there is a block.
#pragma once

#include <map>
#include <set>
#include <utility>

#include "core/extent.hpp"

namespace mambasdk::runtime {

// Takes the smallest free range that is large enough, of those the lowest; O(log n) in the ranges that are free.
// Error(invalid_argument) where the end is beyond 2^63.
class OffsetAllocator {
 public:
  [[nodiscard]] Extent take(Extent bytes);
  void give(Extent offset, Extent bytes);
  [[nodiscard]] Extent end() const { return end_; }

 private:
  void insert(Extent offset, Extent bytes);
  void erase(std::map<Extent, Extent>::iterator range);

  std::map<Extent, Extent> by_offset_;           // offset -> bytes
  std::set<std::pair<Extent, Extent>> by_size_;  // bytes, offset
  Extent end_;
};

}  // namespace mambasdk::runtime
