// From a checked call to kernels: products of windows with packed weights, or the depthwise kernel.
#include <algorithm>
#include <vector>

#include "core/element.hpp"
#include "core/extent.hpp"
#include "ops/convolution/convolution.hpp"
#include "ops/convolution/depthwise.hpp"

namespace mambasdk::convolution {
namespace {

using namespace packed;

template <class F>
void each_tap(const Geometry& g, F&& f) {
  std::int64_t tap[3];
  for (tap[0] = 0; tap[0] < g.kernel[0]; ++tap[0])
    for (tap[1] = 0; tap[1] < g.kernel[1]; ++tap[1])
      for (tap[2] = 0; tap[2] < g.kernel[2]; ++tap[2]) f(tap);
}

Extent float_bytes(Extent count) {
  return count * sizeof(float);
}

// Weights packed for this call alone, one group behind the other.
Context::Workspace pack_groups(const Problem& p) {
  const Geometry& g = p.geometry;
  const Tensor& w = p.weight;
  const Extent bytes =
      Extent(p.groups) * panel_count(p.columns) * g.taps() * p.channels * kPackedColumns * (w.dtype.bits / 8);
  Context::Workspace memory = p.context.workspace(bytes.bytes());
  std::vector<std::int64_t> tap_offset;
  each_tap(g, [&](const std::int64_t (&tap)[3]) { tap_offset.push_back(p.weight_offset(0, 0, tap, 0)); });
  const std::int64_t first[3] = {}, group_bytes = bytes.value() / p.groups;
  for (std::int64_t group = 0; group < p.groups; ++group) {
    const std::int64_t begin = p.weight_offset(group, 0, first, 0) * (w.dtype.bits / 8);
    MAMBASDK_PICK(pack_panels)
    ({.weight = w.ptr<const std::byte>() + begin,
      .type = w.dtype,
      .columns = p.columns,
      .taps = g.taps(),
      .channels = p.channels,
      .column_stride = w.stride(g.transposed ? 4 : 0),
      .channel_stride = w.stride(g.transposed ? 0 : 4),
      .tap_offset = tap_offset.data(),
      .panels = memory.get() + group * group_bytes},
     p.context.parallel());
  }
  return memory;
}

// Groups of few channels become one whose weights are blocks on a diagonal: lanes that would be idle multiply zeros
// instead, and there are fewer, longer sums. The most that still are one vector's.
std::int64_t merged_groups(const Problem& p) {
  std::int64_t merged = 1;
  for (std::int64_t n = 2; n * p.columns <= kPackedColumns / 2 && n <= p.groups; ++n) {
    if (p.groups % n == 0) merged = n;
  }
  return merged;
}

// The same for groups of `merged` each, as float32.
Context::Workspace pack_merged(const Problem& p, std::int64_t merged) {
  const std::int64_t depth = merged * p.channels;
  const Extent floats = Extent(p.groups / merged) * p.geometry.taps() * depth * kPackedColumns;
  Context::Workspace memory = p.context.workspace(float_bytes(floats).bytes());
  auto* to = reinterpret_cast<float*>(memory.get());
  std::fill_n(to, floats.value(), 0.0f);
  for (std::int64_t first = 0; first < p.groups; first += merged) {
    each_tap(p.geometry, [&](const std::int64_t (&tap)[3]) {
      for (std::int64_t i = 0; i < depth; ++i, to += kPackedColumns) {
        const std::int64_t block = i / p.channels;
        for (std::int64_t o = 0; o < p.columns; ++o) {
          const std::int64_t from = p.weight_offset(first + block, o, tap, i % p.channels);
          to[block * p.columns + o] = static_cast<float>(load_element(p.weight.data, p.weight.dtype, from));
        }
      }
    });
  }
  return memory;
}

void run_depthwise(const Problem& p) {
  const Context& context = p.context;
  const Geometry& g = p.geometry;
  const std::int64_t channels = p.groups;
  DepthwiseArgs a{.x = p.x.ptr<const float>(), .batch = p.x.size(0), .channels = channels};
  for (int d = 0; d < 3; ++d) {
    a.in[d] = g.in[d], a.out[d] = g.out[d], a.kernel[d] = g.kernel[d];
    a.stride[d] = g.stride[d], a.padding[d] = g.padding[d], a.dilation[d] = g.dilation[d];
  }
  for (int d = 0; d < 4; ++d) a.x_stride[d] = p.x.stride(d);
  Context::Workspace copy(nullptr, {});
  if (p.x.stride(4) != 1 || p.x.dtype != dtype::f32) {
    copy = context.workspace(float_bytes(p.x.numel()).bytes());
    CopyArgs c{.x = p.x.data, .x_type = p.x.dtype, .batch = a.batch, .channels = channels};
    for (int d = 0; d < 5; ++d) c.x_stride[d] = p.x.stride(d);
    for (int d = 0; d < 3; ++d) c.in[d] = g.in[d];
    c.to = reinterpret_cast<float*>(copy.get());
    MAMBASDK_PICK(convolution_copy)(c, context.parallel());
    a.x = c.to;
    a.x_stride[3] = channels;
    for (int d = 2; d >= 0; --d) a.x_stride[d] = a.x_stride[d + 1] * g.in[d];
  }
  const Context::Workspace table = context.workspace(float_bytes(Extent(g.taps()) * channels).bytes());
  auto* weight = reinterpret_cast<float*>(table.get());
  a.weight = weight;
  each_tap(g, [&](const std::int64_t (&tap)[3]) {
    const std::int64_t first = p.weight_offset(0, 0, tap, 0), step = p.weight.stride(0);
    if (p.weight.dtype == dtype::f32) {
      const float* from = p.weight.ptr<const float>() + first;
      for (std::int64_t c = 0; c < channels; ++c) weight[c] = from[c * step];
    } else {
      for (std::int64_t c = 0; c < channels; ++c)
        weight[c] = static_cast<float>(load_element(p.weight.data, p.weight.dtype, first + c * step));
    }
    weight += channels;
  });
  const EndingTables tables(context, p.ending, p.y, 1, channels, channels);
  a.bias = tables.bias();
  a.results = tables.results();
  MAMBASDK_PICK(convolution_depthwise)(a, context.parallel());
}

}  // namespace

void run(const Problem& p) {
  if (p.is_depthwise()) return run_depthwise(p);
  Context::Workspace panels(nullptr, {});
  const PackedWeight given(p.context, p.weight, p.packed);
  const std::int64_t merged = p.packed ? 1 : merged_groups(p);
  if (!p.packed) panels = merged > 1 ? pack_merged(p, merged) : pack_groups(p);
  Windows w{.x = p.x.data,
            .x_type = p.x.dtype,
            .batch = p.x.size(0),
            .groups = p.groups / merged,
            .channels = p.channels * merged};
  for (int d = 0; d < 5; ++d) w.x_stride[d] = p.x.stride(d);
  w.weight = p.packed ? given.data() : panels.get();
  w.weight_type = merged > 1 ? dtype::f32 : given.type();
  w.columns = p.columns * merged;
  w.panels = panel_count(w.columns);
  Grids grids(p.geometry, w);
  run_windows(p.context, p.operation, grids.windows(), p.ending, p.y);
}

}  // namespace mambasdk::convolution
