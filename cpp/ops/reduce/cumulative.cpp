// cumulative_sum.
#include "core/registry.hpp"
#include "ops/reduce/columns.hpp"
#include "ops/reduce/reduce.hpp"

namespace mambasdk::reduce {
namespace {

constexpr Declaration kCumulative = "cumulative_sum(x: T[*,L,D]) -> (y: T[*,L,D])";

void reference(const CallOf<kCumulative>& c) {
  const Tensor &x = c.tensor<"x">(), &y = c.output<"y">();
  const std::int64_t rows = x.size(-2), columns = x.size(-1);
  for_columns(x, [&](std::int64_t m, std::int64_t d, const auto& element) {
    double sum = 0.0;
    for (std::int64_t l = 0; l < rows; ++l) {
      sum += element(l);
      store_element(y.data, y.dtype, (m * rows + l) * columns + d, sum);
    }
  });
}

void vector(const CallOf<kCumulative>& c) {
  std::vector<std::int64_t> offsets;
  const CumulativeArgs a{.matrices = matrices_of(c.tensor<"x">(), offsets), .y = c.output<"y">().data};
  MAMBASDK_PICK(cumulative_rows)(a, c.context().parallel());
}

}  // namespace

void register_cumulative(Registry& registry) {
  registry.define<kCumulative>({
      .doc = "y[l] = x[0] + … + x[l], each sum as if kept in more digits than float32 has. For inference: it has no "
             "derivative.",
      .reference = reference,
      .cpu = vector,
  });
}

}  // namespace mambasdk::reduce
