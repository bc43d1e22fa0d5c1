// Packs weights into panels: squares of columns and channels, transposed in registers.
#include "core/simd_types.hpp"
#include "kernels/transpose.hpp"
#include "ops/packed/packed_args.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace packed;
using Index = std::int64_t;

// Channels of one tap and kLanes columns, `wanted` of which exist.
template <class T>
void pack_columns(const PackArgs& a, const T* from, Index wanted, T* to) {
  for (Index c = 0; c < a.channels; c += kLanes) {
    const int depth = static_cast<int>(a.channels - c < kLanes ? a.channels - c : kLanes);
    const T* const corner = from + c * a.channel_stride;
    vf square[kLanes];
    if (a.channel_stride == 1) {
      for (int i = 0; i < kLanes; ++i) square[i] = i < wanted ? load_n(corner + i * a.column_stride, depth) : zero();
      transpose(square);
    } else {
      alignas(64) float row[kLanes];
      for (int p = 0; p < depth; ++p) {
        for (int i = 0; i < kLanes; ++i)
          row[i] = i < wanted ? to_float(corner[p * a.channel_stride + i * a.column_stride]) : 0.0f;
        square[p] = load(static_cast<const float*>(row));
      }
    }
    for (int p = 0; p < depth; ++p) store(to + (c + p) * kPackedColumns, square[p]);
  }
}

template <class T>
void pack(const PackArgs& a, const Parallel& parallel) {
  const Index depth = a.taps * a.channels;
  const Index panels = (a.columns + kPackedColumns - 1) / kPackedColumns;
  // Work items are taps of panels.
  parallel(panels * a.taps, 1 + 65536 / (a.channels * kPackedColumns + 1), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index panel = i / a.taps, tap = i % a.taps;
      T* to = static_cast<T*>(a.panels) + (panel * depth + tap * a.channels) * kPackedColumns;
      for (Index v = 0; v < kPackedColumns; v += kLanes) {
        const Index column = panel * kPackedColumns + v, left = a.columns - column;
        const T* from = static_cast<const T*>(a.weight) + a.tap_offset[tap] + (left > 0 ? column * a.column_stride : 0);
        pack_columns(a, from, left, to + v);
      }
    }
  });
}

}  // namespace

void pack_panels(const PackArgs& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(false, pack_panels(a, parallel));
  with_type(a.type, [&]<class T>(T) { pack<T>(a, parallel); });
}

}  // namespace mambasdk::MAMBASDK_ISA
