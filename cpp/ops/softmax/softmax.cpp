#include "ops/softmax/softmax.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "core/element.hpp"
#include "core/registry.hpp"

namespace mambasdk {
namespace softmax {
namespace {

constexpr Declaration kSoftmax = "softmax(x: T[*,D], log: bool = false) -> (y: T[*,D])";

void reference(const CallOf<kSoftmax>& c) {
  const Tensor &x = c.tensor<"x">(), &y = c.output<"y">();
  const std::int64_t columns = c.dim<"D">(), rows = row_count(x);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t row = row_offset(x, r);
    const auto element = [&](std::int64_t d) { return load_element(x.data, x.dtype, row + d * x.stride(-1)); };
    double largest = -std::numeric_limits<double>::infinity(), sum = 0.0;
    for (std::int64_t d = 0; d < columns; ++d) largest = std::fmax(largest, element(d));
    for (std::int64_t d = 0; d < columns; ++d) sum += std::exp(element(d) - largest);
    for (std::int64_t d = 0; d < columns; ++d) {
      const double shifted = element(d) - largest;
      store_element(y.data, y.dtype, r * columns + d,
                    c.flag<"log">() ? shifted - std::log(sum) : std::exp(shifted) / sum);
    }
  }
}

void vector(const CallOf<kSoftmax>& c) {
  const Tensor &x = c.tensor<"x">(), &y = c.output<"y">();
  std::vector<std::int64_t> offsets;
  const Args a{
      .log = c.flag<"log">(), .rows = row_count(x), .columns = c.dim<"D">(), .x = rows_view(&x, offsets), .y = y.data};
  MAMBASDK_PICK(softmax_rows)(a, c.context().parallel());
}

}  // namespace
}  // namespace softmax

void register_softmax(Registry& registry) {
  using namespace softmax;
  registry.define<kSoftmax>({
      .doc = "exp(x) over its sum along D, in float32, without overflow; with `log` the logarithm of that. A row of "
             "-inf alone is NaN. For inference: it has no derivative.",
      .reference = reference,
      .cpu = vector,
  });
}

}  // namespace mambasdk
