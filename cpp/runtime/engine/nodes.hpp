// What the nodes of a program do, the same in `prepare` and in a plan.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "core/tensor.hpp"
#include "runtime/engine/program.hpp"
#include "runtime/engine/views.hpp"

namespace mambasdk::runtime {

// The operation, or the kind of view.
[[nodiscard]] std::string describe(const Node& node);

// Error(out_of_memory) for what a few lines of a program can blow up to; memory runs out far below, arithmetic on sizes
// does not.
void check_size(const Tensor& t);

// value(amount): the amount's value.
template <class F>
[[nodiscard]] Tensor view_of(const Node& node, const Tensor& in, F&& value) {
  std::array<std::int64_t, kMaxDims> extents{};
  for (std::size_t d = 0; d < node.shape.size(); ++d) extents[d] = value(node.shape[d]);
  const std::span<const std::int64_t> shape(extents.data(), node.shape.size());
  switch (node.kind) {
    case Node::Kind::slice:
      return slice_view(in, node.dim, value(node.start), value(node.length), node.step);
    case Node::Kind::permute:
      return permute_view(in, node.dims);
    case Node::Kind::expand:
      return expand_view(in, shape);
    default:
      return reshape_view(in, shape);
  }
}

}  // namespace mambasdk::runtime
