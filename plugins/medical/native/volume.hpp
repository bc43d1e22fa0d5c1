// Volumes in memory, and what loops over them share.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "mambasdk/plugin.hpp"

namespace mambasdk::medical {

using Shape = std::array<std::int64_t, 3>;  // depth, height, width
using Spacing = std::array<double, 3>;      // mm, in the same order

// Most voxels of all channels that a reader takes unless it is told otherwise.
inline constexpr std::int64_t kMaxVoxels = std::int64_t{1} << 30;

// (channels, *shape), width fastest.
struct Volume {
  std::int64_t channels = 0;
  Shape shape{};
  std::vector<float> values;
};

// The product of extents, each 0 or more. Throws Error (invalid_argument) where it is more than `most`; `what` begins
// the message.
[[nodiscard]] inline std::int64_t checked_count(std::span<const std::int64_t> extents, std::int64_t most,
                                                const std::string& what) {
  std::int64_t count = 1;
  bool fits = true;
  for (const std::int64_t n : extents) {
    fits = fits && n >= 0 && !__builtin_mul_overflow(count, n, &count);
  }
  if (!fits || count > most) {
    plugin::invalid(what + ": expected at most " + std::to_string(most) + " voxels, got " + plugin::to_text(extents));
  }
  return count;
}

[[nodiscard]] inline std::size_t count_of(const Shape& shape) {
  return static_cast<std::size_t>(shape[0]) * static_cast<std::size_t>(shape[1]) * static_cast<std::size_t>(shape[2]);
}

// f(begin, end) over ranges that cover [0, n), on the host's threads; f may run out of memory, and nothing else.
template <class F>
void for_ranges(const mambasdk_context& context, std::int64_t n, std::int64_t grain, F&& f) {
  std::atomic<bool> out_of_memory = false;
  plugin::parallel_for(context, n, grain, [&](std::int64_t begin, std::int64_t end) noexcept {
    try {
      f(begin, end);
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
  });
  if (out_of_memory) throw std::bad_alloc();
}

}  // namespace mambasdk::medical
