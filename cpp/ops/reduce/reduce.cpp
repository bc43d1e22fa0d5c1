#include "ops/reduce/reduce.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/reduce/columns.hpp"

namespace mambasdk {
namespace reduce {
namespace {

constexpr std::string_view kArguments = "(x: T[*,L,D]) -> (y: T[*,D])";
constexpr Declaration kSum("sum_rows", kArguments);
constexpr Declaration kMean("mean_rows", kArguments);
constexpr Declaration kProduct("product_rows", kArguments);
constexpr Declaration kMax("max_rows", kArguments);
constexpr Declaration kMin("min_rows", kArguments);

double joined(Reduction reduction, double a, double b) {
  switch (reduction) {
    case Reduction::sum:
      return a + b;
    case Reduction::product:
      return a * b;
    case Reduction::maximum:
      return a > b || std::isnan(a) ? a : b;
    default:
      return a < b || std::isnan(a) ? a : b;
  }
}

double start(Reduction reduction) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  switch (reduction) {
    case Reduction::sum:
      return 0.0;
    case Reduction::product:
      return 1.0;
    case Reduction::maximum:
      return -kInfinity;
    default:
      return kInfinity;
  }
}

template <const Declaration& kOp>
std::int64_t divisor(const CallOf<kOp>& c) {
  return kOp.name() == "mean_rows" ? std::max<std::int64_t>(c.template dim<"L">(), 1) : 1;
}

template <const Declaration& kOp, Reduction kReduction>
void reference_rows(const CallOf<kOp>& c) {
  const Tensor &x = c.template tensor<"x">(), &y = c.template output<"y">();
  for_columns(x, [&](std::int64_t m, std::int64_t d, const auto& element) {
    double value = start(kReduction);
    for (std::int64_t l = 0; l < x.size(-2); ++l) value = joined(kReduction, value, element(l));
    store_element(y.data, y.dtype, m * x.size(-1) + d, value / static_cast<double>(divisor(c)));
  });
}

template <const Declaration& kOp, Reduction kReduction>
void vector_rows(const CallOf<kOp>& c) {
  std::vector<std::int64_t> offsets;
  Args a{.reduction = kReduction,
         .matrices = matrices_of(c.template tensor<"x">(), offsets),
         .divisor = static_cast<float>(divisor(c)),
         .y = c.template output<"y">().data};
  Context::Workspace partial(nullptr, {});
  if (part_count(a.matrices) > 1) {
    partial = c.context().workspace(
        (Extent(a.matrices.count) * part_count(a.matrices) * a.matrices.columns * sizeof(float)).bytes());
    a.partial = reinterpret_cast<float*>(partial.get());
  }
  MAMBASDK_PICK(reduce_rows)(a, c.context().parallel());
}

template <const Declaration& kOp>
void check_rows(const CallOf<kOp>& c) {
  if (c.template dim<"L">() > 0) return;
  fail(ErrorCode::invalid_argument, c.operation(), ": x has no rows, expected at least 1: nothing has no extreme");
}

template <const Declaration& kOp, Reduction kReduction>
void define(Registry& registry, std::string_view doc, void (*check)(const CallOf<kOp>&) = nullptr) {
  registry.define<kOp>(
      {.doc = doc, .check = check, .reference = reference_rows<kOp, kReduction>, .cpu = vector_rows<kOp, kReduction>});
}

}  // namespace
}  // namespace reduce

void register_reduce(Registry& registry) {
  using namespace reduce;
  define<kSum, Reduction::sum>(
      registry,
      "The sum over L, accumulated in float32; 0 where there are no rows. For inference: it has no derivative.");
  define<kMean, Reduction::sum>(registry, "The mean over L, accumulated in float32; 0 where there are no rows.");
  define<kProduct, Reduction::product>(
      registry,
      "The product over L, accumulated in float32; 1 where there are no rows. For inference: it has no derivative.");
  define<kMax, Reduction::maximum>(
      registry, "The largest over L, of at least one row; NaN where one is. For inference: it has no derivative.",
      check_rows<kMax>);
  define<kMin, Reduction::minimum>(
      registry, "The smallest over L, of at least one row; NaN where one is. For inference: it has no derivative.",
      check_rows<kMin>);
  register_arguments(registry);
  register_cumulative(registry);
}

}  // namespace mambasdk
