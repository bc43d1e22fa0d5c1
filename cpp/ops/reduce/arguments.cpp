// argmax_rows and argmin_rows.
#include <cmath>
#include <cstdint>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/reduce/columns.hpp"
#include "ops/reduce/reduce.hpp"

namespace mambasdk::reduce {
namespace {

constexpr std::string_view kArguments = "(x: T[*,L,D]) -> (y: i32[*,D])";
constexpr Declaration kArgmax("argmax_rows", kArguments);
constexpr Declaration kArgmin("argmin_rows", kArguments);

template <const Declaration& kOp>
void check(const CallOf<kOp>& c) {
  const std::int64_t length = c.template dim<"L">();
  if (length > 0 && length <= INT32_MAX) return;
  fail(ErrorCode::invalid_argument, c.operation(), ": x has ", length, " rows, expected 1 to ", INT32_MAX);
}

template <const Declaration& kOp>
void reference(const CallOf<kOp>& c) {
  const Tensor& x = c.template tensor<"x">();
  auto* y = c.template output<"y">().template ptr<std::int32_t>();
  const double sign = kOp.name() == "argmin_rows" ? -1.0 : 1.0;
  for_columns(x, [&](std::int64_t m, std::int64_t d, const auto& element) {
    std::int64_t best = 0;
    for (std::int64_t l = 1; l < x.size(-2); ++l) {
      const double value = sign * element(l), so_far = sign * element(best);
      if (value > so_far || (std::isnan(value) && !std::isnan(so_far))) best = l;
    }
    y[m * x.size(-1) + d] = static_cast<std::int32_t>(best);
  });
}

template <const Declaration& kOp>
void vector(const CallOf<kOp>& c) {
  std::vector<std::int64_t> offsets;
  ArgumentArgs a{.smallest = kOp.name() == "argmin_rows",
                 .matrices = matrices_of(c.template tensor<"x">(), offsets),
                 .y = c.template output<"y">().template ptr<std::int32_t>()};
  const Extent size = Extent(a.matrices.count) * part_count(a.matrices) * a.matrices.columns;
  Context::Workspace values(nullptr, {}), indices(nullptr, {});
  if (part_count(a.matrices) > 1) {
    values = c.context().workspace((size * sizeof(float)).bytes());
    indices = c.context().workspace((size * sizeof(std::int32_t)).bytes());
    a.values = reinterpret_cast<float*>(values.get());
    a.indices = reinterpret_cast<std::int32_t*>(indices.get());
  }
  MAMBASDK_PICK(argument_rows)(a, c.context().parallel());
}

template <const Declaration& kOp>
void define(Registry& registry, std::string_view doc) {
  registry.define<kOp>({.doc = doc, .check = check<kOp>, .reference = reference<kOp>, .cpu = vector<kOp>});
}

}  // namespace

void register_arguments(Registry& registry) {
  define<kArgmax>(registry, "The row of the largest over L, the first of equals; of a NaN where there is one.");
  define<kArgmin>(registry, "The row of the smallest over L, the first of equals; of a NaN where there is one.");
}

}  // namespace mambasdk::reduce
