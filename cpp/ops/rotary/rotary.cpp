#include "ops/rotary/rotary.hpp"

#include "core/element.hpp"
#include "core/extent.hpp"
#include "core/registry.hpp"

namespace mambasdk {
namespace rotary {
namespace {

constexpr Declaration kRotary =
    "rotary(x: T[B,L,H,E], cos: f32[L,R], sin: f32[L,R], interleaved: bool = false) -> (y: T[B,L,H,E])";
using Call = CallOf<kRotary>;

void check(const Call& c) {
  const std::int64_t width = c.dim<"E">(), pairs = c.dim<"R">();
  if (pairs > width / 2) {
    fail(ErrorCode::invalid_argument, c.operation(), ": cos has ", pairs, " angles, expected at most ", width / 2,
         ": two channels of x turn by each, and x has ", width);
  }
}

Args args_of(const Call& c) {
  return {.batch = c.dim<"B">(),
          .length = c.dim<"L">(),
          .heads = c.dim<"H">(),
          .width = c.dim<"E">(),
          .pairs = c.dim<"R">(),
          .type = c.tensor<"x">().dtype,
          .x = strided_view(c.tensor<"x">()),
          .cos = strided_view(c.tensor<"cos">()),
          .sin = strided_view(c.tensor<"sin">()),
          .interleaved = c.flag<"interleaved">(),
          .y = c.output<"y">().data};
}

void reference(const Call& c) {
  const Args a = args_of(c);
  if (c.output<"y">().numel() == 0) return;
  const auto table = [&](const StridedView& view, std::int64_t l, std::int64_t r) {
    return load_element(view.data, dtype::f32, l * view.stride[0] + r * view.stride[1]);
  };
  std::int64_t row = 0;
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t l = 0; l < a.length; ++l) {
      for (std::int64_t h = 0; h < a.heads; ++h, row += a.width) {
        const auto x = [&](std::int64_t e) {
          const std::int64_t at = b * a.x.stride[0] + l * a.x.stride[1] + h * a.x.stride[2] + e * a.x.stride[3];
          return load_element(a.x.data, a.type, at);
        };
        for (std::int64_t r = 0; r < a.pairs; ++r) {
          const std::int64_t i = a.interleaved ? 2 * r : r, j = a.interleaved ? 2 * r + 1 : a.pairs + r;
          const double cos = table(a.cos, l, r), sin = table(a.sin, l, r);
          store_element(a.y, a.type, row + i, x(i) * cos - x(j) * sin);
          store_element(a.y, a.type, row + j, x(j) * cos + x(i) * sin);
        }
        for (std::int64_t e = 2 * a.pairs; e < a.width; ++e) store_element(a.y, a.type, row + e, x(e));
      }
    }
  }
}

void vector_rotary(const Call& c) {
  Args a = args_of(c);
  if (c.output<"y">().numel() == 0) return;
  Context::Workspace tables(nullptr, {});
  if (a.pairs > 1 && (a.cos.stride[1] != 1 || a.sin.stride[1] != 1)) {
    tables = c.context().workspace((Extent(2 * sizeof(float)) * a.length * a.pairs).bytes());
    a.tables = reinterpret_cast<float*>(tables.get());
  }
  MAMBASDK_PICK(rotary)(a, c.context().parallel());
}

}  // namespace
}  // namespace rotary

void register_rotary(Registry& registry) {
  using namespace rotary;
  registry.define<kRotary>({
      .doc = "Rotary positions (arXiv 2104.09864, eq. 34): in each head the pair r of channels (u, v) becomes (u cos - "
             "v sin, v cos + u sin) with cos[l, r] and sin[l, r], the tables' angles of position l. The pairs are of "
             "the first 2 R channels: r and R + r, or 2 r and 2 r + 1 if interleaved; the rest passes. For inference: "
             "it has no derivative.",
      .check = check,
      .reference = reference,
      .cpu = vector_rotary,
  });
}

}  // namespace mambasdk
