#include "runtime/engine/nodes.hpp"

#include "core/error.hpp"
#include "core/extent.hpp"
#include "runtime/engine/memory_limit.hpp"

namespace mambasdk::runtime {

std::string describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::op:
      return node.op->signature.name;
    case Node::Kind::slice:
      return "slice";
    case Node::Kind::reshape:
      return "reshape";
    case Node::Kind::expand:
      return "expand";
    case Node::Kind::append:
      return "append";
    default:
      return "permute";
  }
}

void check_size(const Tensor& t) {
  Extent count = 1;
  for (int d = 0; d < t.ndim; ++d) {
    if (t.size(d) > 0 && count.value() > kMostElements / t.size(d)) {
      fail(ErrorCode::out_of_memory, "a tensor of ", t.shape_text(), " has more than ", kMostElements, " elements");
    }
    if (t.size(d) > 0) count *= t.size(d);
  }
}

}  // namespace mambasdk::runtime
