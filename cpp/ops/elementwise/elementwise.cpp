#include "ops/elementwise/elementwise.hpp"

#include <cmath>
#include <vector>

#include "core/element.hpp"
#include "core/registry.hpp"

namespace mambasdk {
namespace elementwise {
namespace {

double evaluate(Function function, double x, double y) {
  switch (function) {
    case Function::add:
      return x + y;
    case Function::silu_mul:
      return x / (1.0 + std::exp(-x)) * y;
    default:
      return -std::exp(x);
  }
}

std::int64_t columns_of(const Tensor& t) {
  return t.ndim > 0 ? t.size(-1) : 1;
}

template <Function kFunction>
void reference(const OpCall& c) {
  const Tensor& x = c.tensor(0);
  const Tensor& y = kFunction == Function::neg_exp ? x : c.tensor(1);
  const Tensor& out = c.output(0);
  const std::int64_t columns = columns_of(x), rows = row_count(x);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < columns; ++i) {
      const auto at = [&](const Tensor& t) {
        return load_element(t.data, t.dtype, row_offset(t, r) + (t.ndim > 0 ? i * t.stride(-1) : 0));
      };
      store_element(out.data, out.dtype, r * columns + i, evaluate(kFunction, at(x), at(y)));
    }
  }
}

template <Function kFunction>
void vector(const OpCall& c) {
  const Tensor& x = c.tensor(0);
  const Tensor* y = kFunction == Function::neg_exp ? nullptr : &c.tensor(1);
  const Tensor& out = c.output(0);
  Args a;
  a.function = kFunction;
  a.rows = row_count(x);
  a.columns = columns_of(x);
  a.out = out.data;
  a.type = out.dtype;
  std::vector<std::int64_t> x_offsets, y_offsets;
  if (x.is_contiguous() && (y == nullptr || y->is_contiguous())) {  // one long row, whatever the shape
    a.rows = 1;
    a.columns = x.numel();
    a.first = Rows{x.data, nullptr, 0, 1, x.dtype};
    if (y != nullptr) a.second = Rows{y->data, nullptr, 0, 1, y->dtype};
  } else {
    a.first = rows_view(&x, x_offsets);
    a.second = rows_view(y, y_offsets);
  }
  MAMBASDK_PICK(elementwise_rows)(a, c.context.parallel());
}

}  // namespace
}  // namespace elementwise

void register_elementwise(Registry& registry) {
  using namespace elementwise;
  registry.define({.signature = "add(x: T[*], y: T[*]) -> (out: T[*])",
                   .doc = "x + y, of the same shape. `out` may be the memory of x or y.",
                   .reference = reference<Function::add>,
                   .cpu = vector<Function::add>});
  registry.define({.signature = "silu_mul(gate: T[*], x: T[*]) -> (y: T[*])",
                   .doc = "gate * sigmoid(gate) * x, of the same shape. `y` may be the memory of gate or x.",
                   .reference = reference<Function::silu_mul>,
                   .cpu = vector<Function::silu_mul>});
  registry.define({.signature = "neg_exp(x: W[*]) -> (y: f32[*])",
                   .doc = "-exp(x) in float32: A from A_log.",
                   .reference = reference<Function::neg_exp>,
                   .cpu = vector<Function::neg_exp>});
}

}  // namespace mambasdk
