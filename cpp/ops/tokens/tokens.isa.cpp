// unfold2d as copies of kernel rows.
#include "ops/tokens/tokens.hpp"

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace tokens;
using Index = std::int64_t;

// One row of one channel's window, for every window of an output row: `line` is the image's row, null in the padding;
// the windows [inside, outside) lie within it. kRun: the kernel's width where it is known when compiling, else 0.
template <class T, int kRun>
MAMBASDK_SIMD void unfold_line(const UnfoldArgs& a, const T* line, Index inside, Index outside, T* to) {
  const Index run = kRun > 0 ? kRun : a.kernel[1];
  const Index window = a.channels * a.kernel[0] * run, step = a.stride[1], pixel = a.x_stride[3];
  const auto slow = [&](Index begin, Index end) {
    for (Index j = begin; j < end; ++j) {
      for (Index v = 0; v < run; ++v) {
        const Index w = j * step + v - a.padding[1];
        to[j * window + v] = line != nullptr && w >= 0 && w < a.width ? line[w * pixel] : T{};
      }
    }
  };
  if (line == nullptr || pixel != 1) return slow(0, a.out_width);
  slow(0, inside);
  for (Index j = inside; j < outside; ++j) {
    __builtin_memcpy(to + j * window, line + (j * step - a.padding[1]), static_cast<std::size_t>(run) * sizeof(T));
  }
  slow(outside, a.out_width);
}

template <class T, int kRun>
void unfold_rows(const UnfoldArgs& a, const Parallel& parallel) {
  const Index row = a.out_width * a.channels * a.kernel[0] * a.kernel[1];
  const Index grain = row > 0 && row < 16384 ? 16384 / row : 1;
  // Windows j with j step - padding >= 0 and j step - padding + kernel <= width.
  const auto limit = [&](Index n) { return n < 0 ? 0 : n > a.out_width ? a.out_width : n; };
  const Index inside = limit(a.padding[1] / a.stride[1] + (a.padding[1] % a.stride[1] > 0 ? 1 : 0));
  const Index reach = a.width + a.padding[1] - a.kernel[1];
  const Index end = reach < 0 ? 0 : limit(reach / a.stride[1] + 1), outside = end < inside ? inside : end;
  parallel(a.batch * a.out_height, grain, [&](Index begin, Index stop) {
    for (Index r = begin; r < stop; ++r) {
      const T* image = static_cast<const T*>(a.x) + r / a.out_height * a.x_stride[0];
      T* to = static_cast<T*>(a.y) + r * row;
      for (Index c = 0; c < a.channels; ++c) {
        for (Index u = 0; u < a.kernel[0]; ++u, to += a.kernel[1]) {
          const Index h = r % a.out_height * a.stride[0] + u - a.padding[0];
          const bool there = h >= 0 && h < a.height;
          unfold_line<T, kRun>(a, there ? image + c * a.x_stride[1] + h * a.x_stride[2] : nullptr, inside, outside, to);
        }
      }
    }
  });
}

template <class T>
void unfold_of(const UnfoldArgs& a, const Parallel& parallel) {
  switch (a.kernel[1]) {
    case 3:
      return unfold_rows<T, 3>(a, parallel);
    case 4:
      return unfold_rows<T, 4>(a, parallel);
    case 8:
      return unfold_rows<T, 8>(a, parallel);
    case 16:
      return unfold_rows<T, 16>(a, parallel);
    default:
      return unfold_rows<T, 0>(a, parallel);
  }
}

}  // namespace

void unfold2d(const UnfoldArgs& a, const Parallel& parallel) {
  return a.element_bytes == 4 ? unfold_of<float>(a, parallel) : unfold_of<bf16>(a, parallel);
}

}  // namespace mambasdk::MAMBASDK_ISA
