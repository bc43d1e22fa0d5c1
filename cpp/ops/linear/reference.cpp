#include "ops/linear/reference.hpp"

#include "core/element.hpp"
#include "ops/rows.hpp"

namespace mambasdk::linear {

void reference_linear(const Tensor& x, const Tensor& weight, const Tensor* bias, bool rounds_x, const Tensor& y) {
  const std::int64_t rows = row_count(x), in = weight.size(1), out = weight.size(0);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t first = row_offset(x, r);
    for (std::int64_t o = 0; o < out; ++o) {
      double sum = bias != nullptr ? load_element(bias->data, bias->dtype, o * bias->stride(0)) : 0.0;
      for (std::int64_t i = 0; i < in; ++i) {
        const double element = load_element(x.data, x.dtype, first + i * x.stride(-1));
        sum += (rounds_x ? to_float(from_float<bf16>::cast(static_cast<float>(element))) : element) *
               load_element(weight.data, weight.dtype, o * weight.stride(0) + i * weight.stride(1));
      }
      store_element(y.data, y.dtype, r * out + o, sum);
    }
  }
}

void reference_embedding(const std::int32_t* indices, std::int64_t count, const Tensor& weight, const Tensor& y) {
  const std::int64_t columns = weight.size(1);
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t d = 0; d < columns; ++d) {
      store_element(y.data, y.dtype, r * columns + d,
                    load_element(weight.data, weight.dtype, indices[r] * weight.stride(0) + d * weight.stride(1)));
    }
  }
}

}  // namespace mambasdk::linear
