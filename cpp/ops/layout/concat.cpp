// concat and concat_rows: each part is a copy into its rows of the result.
#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/layout/layout.hpp"

namespace mambasdk::layout {
namespace {

constexpr Declaration kConcat =
    "concat(x0: T[*,L0,D], x1: T[*,L1,D], x2: T[*,L2,D]?, x3: T[*,L3,D]?, x4: T[*,L4,D]?, x5: T[*,L5,D]?, "
    "x6: T[*,L6,D]?, x7: T[*,L7,D]?) -> (y: T[*,L0+L1+L2+L3+L4+L5+L6+L7,D]) "
    "where L2 = 0 if not x2, L3 = 0 if not x3, L4 = 0 if not x4, L5 = 0 if not x5, L6 = 0 if not x6, L7 = 0 if not x7";
constexpr Declaration kConcatRows = "concat_rows(x: T[*,L,D], y: T[*,M,D]) -> (out: T[*,L+M,D])";

// The parts that are there, one behind the other.
void join(std::span<const Tensor* const> parts, const Tensor& out, Copy copy, const Context& context) {
  std::int64_t row = 0;
  for (const Tensor* x : parts) {
    if (x == nullptr) continue;
    copy(*x, part(out, -2, row, x->size(-2)), context);
    row += x->size(-2);
  }
}

template <Copy kCopy>
void run_concat(const CallOf<kConcat>& c) {
  const Tensor* const parts[] = {c.optional<"x0">(), c.optional<"x1">(), c.optional<"x2">(), c.optional<"x3">(),
                                 c.optional<"x4">(), c.optional<"x5">(), c.optional<"x6">(), c.optional<"x7">()};
  join(parts, c.output<"y">(), kCopy, c.context());
}

template <Copy kCopy>
void run_concat_rows(const CallOf<kConcatRows>& c) {
  const Tensor* const parts[] = {c.optional<"x">(), c.optional<"y">()};
  join(parts, c.output<"out">(), kCopy, c.context());
}

}  // namespace

void register_concat(Registry& registry) {
  registry.define<kConcat>({
      .doc = "The rows of x0, then those of x1 and of the others that are given. For inference: it has no derivative.",
      .reference = run_concat<scalar_copy>,
      .cpu = run_concat<vector_copy>,
  });
  registry.define<kConcatRows>({
      .doc = "The rows of x, then those of y.",
      .reference = run_concat_rows<scalar_copy>,
      .cpu = run_concat_rows<vector_copy>,
  });
}

}  // namespace mambasdk::layout
