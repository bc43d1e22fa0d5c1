// Tensors whose last dim is side by side in memory: views of channel-first memory are copied, as tiles that are turned
// in registers.
#pragma once

#include "core/op.hpp"
#include "ops/map.hpp"

namespace mambasdk {

// x itself where its last dim has stride 1 or one element, else, or `always`, a contiguous copy of it in `scratch`.
[[nodiscard]] Tensor channel_last(const Tensor& x, const Context& context, Context::Workspace& scratch,
                                  bool always = false);

// x, of (batch, depth, height, width, channels) with channels side by side.
[[nodiscard]] Map map_of(const Tensor& x);

}  // namespace mambasdk
