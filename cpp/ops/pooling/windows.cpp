#include "ops/pooling/windows.hpp"

#include <algorithm>

namespace mambasdk::pooling {

std::vector<Window> sliding(const Slide& s, std::int64_t count, bool count_padding) {
  std::vector<Window> windows(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t start = i * s.stride - s.before;
    // Taps before x, of which there may be 2^62.
    const std::int64_t skipped = start < 0 ? std::min(s.kernel, (-start - 1) / s.dilation + 1) : 0;
    const std::int64_t first = start + skipped * s.dilation;
    Window& w = windows[static_cast<std::size_t>(i)];
    if (skipped < s.kernel && first < s.size) {
      w.first = first;
      w.count = std::min(s.kernel - skipped, (s.size - 1 - first) / s.dilation + 1);
    }
    w.divisor = static_cast<double>(count_padding ? std::min(start + s.kernel, s.size + s.before) - start : w.count);
  }
  return windows;
}

std::vector<Window> adaptive(std::int64_t size, std::int64_t count) {
  std::vector<Window> windows(static_cast<std::size_t>(count));
  // floor(i size / count) without the product: i size = i (q count + r).
  const std::int64_t q = count > 0 ? size / count : 0, r = count > 0 ? size % count : 0;
  std::int64_t whole = 0, rest = 0;  // i size = whole count + rest
  for (Window& w : windows) {
    w.first = whole;
    whole += q;
    rest += r;
    if (rest >= count) {
      rest -= count;
      ++whole;
    }
    w.count = whole + (rest > 0 ? 1 : 0) - w.first;
    w.divisor = static_cast<double>(w.count);
  }
  return windows;
}

}  // namespace mambasdk::pooling
