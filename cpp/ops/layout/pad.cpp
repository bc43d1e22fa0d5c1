// pad: copies of x and of its edges as other views see them.
#include <algorithm>
#include <cstring>

#include "core/element.hpp"
#include "core/registry.hpp"
#include "ops/layout/layout.hpp"

namespace mambasdk::layout {
namespace {

constexpr Declaration kPad =
    "pad(x: T[*,L,D], before: int, after: int, mode: int = 0, value: float = 0) -> (y: T[*,L+before+after,D])";

enum Mode : std::int64_t { kConstant = 0, kReflect = 1, kReplicate = 2, kCircular = 3 };

void check_pad(const CallOf<kPad>& c) {
  const std::int64_t mode = c.integer<"mode">(), length = c.dim<"L">();
  if (mode < kConstant || mode > kCircular) {
    fail(ErrorCode::invalid_argument, c.operation(), ": mode is ", mode,
         ", expected 0 (constant), 1 (reflect), 2 (replicate) or 3 (circular)");
  }
  const auto at_most = [&](const char* name, std::int64_t count, std::int64_t most, const char* what) {
    if (count <= most) return;
    fail(ErrorCode::invalid_argument, c.operation(), ": ", name, " is ", count, ", expected at most ",
         std::max<std::int64_t>(most, 0), ": x has ", length, " rows to ", what);
  };
  const auto both = [&](std::int64_t most, const char* what) {
    at_most("before", c.integer<"before">(), most, what);
    at_most("after", c.integer<"after">(), most, what);
  };
  if (mode == kReflect) both(std::max<std::int64_t>(length - 1, 0), "reflect, but for the one at the edge");
  if (mode == kReplicate && length == 0) both(0, "replicate");
  if (mode == kCircular) both(length, "go around");
}

// As many rows as `to` has, which stand before (after) x.
Tensor edge(const CallOf<kPad>& c, const Tensor& to, bool before, Tensor& value) {
  const Tensor& x = c.tensor<"x">();
  const std::int64_t length = x.size(-2), count = to.size(-2);
  switch (c.integer<"mode">()) {
    case kReflect:
      return part(x, -2, before ? 1 : length - 1 - count, count).mirrored(-2);
    case kReplicate:
      return repeated(x, -2, before ? 0 : length - 1, count);
    case kCircular:
      return part(x, -2, before ? length - count : 0, count);
    default:
      value.shape = to.shape;
      value.ndim = to.ndim;
      return value;
  }
}

template <Copy kCopy>
void run_pad(const CallOf<kPad>& c) {
  const Tensor &x = c.tensor<"x">(), &y = c.output<"y">();
  const std::int64_t before = c.integer<"before">(), after = c.integer<"after">(), length = x.size(-2);
  double stored = 0.0;  // the value in y's type
  store_element(&stored, y.dtype, 0, c.number<"value">());
  Tensor value;  // all strides are 0
  value.data = &stored;
  value.dtype = y.dtype;
  const Tensor first = part(y, -2, 0, before), last = part(y, -2, before + length, after);
  if (before > 0) kCopy(edge(c, first, true, value), first, c.context());
  if (length > 0) kCopy(x, part(y, -2, before, length), c.context());
  if (after > 0) kCopy(edge(c, last, false, value), last, c.context());
}

}  // namespace

void register_pad(Registry& registry) {
  registry.define<kPad>({
      .doc = "`before` rows, those of x, and `after` rows more. mode 0 (constant): they hold `value`; 1 (reflect): the "
             "rows behind the first (before the last) in the opposite order, at most L - 1 of them; 2 (replicate): "
             "the first (last) row; 3 (circular): the last (first) rows of x, at most L of them. For inference: it "
             "has no derivative.",
      .check = check_pad,
      .reference = run_pad<scalar_copy>,
      .cpu = run_pad<vector_copy>,
  });
}

}  // namespace mambasdk::layout
