#include "ops/elementwise/elementwise.hpp"

#include <cmath>
#include <vector>

#include "core/element.hpp"
#include "core/registry.hpp"

namespace mambasdk {
namespace elementwise {
namespace {

double evaluate(Function function, double x, double y, double parameter) {
  switch (function) {
    case Function::add:
      return x + y;
    case Function::multiply:
      return x * y;
    case Function::silu_mul:
      return x / (1.0 + std::exp(-x)) * y;
    case Function::gelu:
      return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    case Function::relu:
      return x < 0.0 ? 0.0 : x;
    case Function::leaky_relu:
      return x < 0.0 ? parameter * x : x;
    case Function::sigmoid:
      return 1.0 / (1.0 + std::exp(-x));
    case Function::scale:
      return parameter * x;
    default:
      return -std::exp(x);
  }
}

template <Function kFunction>
double parameter_of(const OpCall& c) {
  return kFunction == Function::leaky_relu || kFunction == Function::scale ? c.real(1) : 0.0;
}

std::int64_t columns_of(const Tensor& t) {
  return t.ndim > 0 ? t.size(-1) : 1;
}

template <Function kFunction>
void reference(const OpCall& c) {
  const Tensor& x = c.tensor(0);
  const Tensor& y = is_binary(kFunction) ? c.tensor(1) : x;
  const Tensor& out = c.output(0);
  const std::int64_t columns = columns_of(x), rows = row_count(x);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < columns; ++i) {
      const auto at = [&](const Tensor& t) {
        return load_element(t.data, t.dtype, row_offset(t, r) + (t.ndim > 0 ? i * t.stride(-1) : 0));
      };
      store_element(out.data, out.dtype, r * columns + i,
                    evaluate(kFunction, at(x), at(y), parameter_of<kFunction>(c)));
    }
  }
}

template <Function kFunction>
void vector(const OpCall& c) {
  const Tensor& x = c.tensor(0);
  const Tensor* y = is_binary(kFunction) ? &c.tensor(1) : nullptr;
  const Tensor& out = c.output(0);
  Args a;
  a.function = kFunction;
  a.rows = row_count(x);
  a.columns = columns_of(x);
  a.parameter = static_cast<float>(parameter_of<kFunction>(c));
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
  registry.define({.signature = "multiply(x: T[*], y: T[*]) -> (out: T[*])",
                   .doc = "x * y, of the same shape. `out` may be the memory of x or y.",
                   .reference = reference<Function::multiply>,
                   .cpu = vector<Function::multiply>});
  registry.define({.signature = "scale(x: T[*], factor: float) -> (y: T[*])",
                   .doc = "factor * x. `y` may be the memory of x.",
                   .reference = reference<Function::scale>,
                   .cpu = vector<Function::scale>});
  registry.define({.signature = "gelu(x: T[*]) -> (y: T[*])",
                   .doc = "x times the standard normal distribution function of x: the exact form (arXiv 1606.08415), "
                          "not the one with tanh. `y` may be the memory of x.",
                   .reference = reference<Function::gelu>,
                   .cpu = vector<Function::gelu>});
  registry.define({.signature = "relu(x: T[*]) -> (y: T[*])",
                   .doc = "max(x, 0). `y` may be the memory of x.",
                   .reference = reference<Function::relu>,
                   .cpu = vector<Function::relu>});
  registry.define({.signature = "leaky_relu(x: T[*], slope: float = 0.01) -> (y: T[*])",
                   .doc = "x where x >= 0, slope * x elsewhere. `y` may be the memory of x.",
                   .reference = reference<Function::leaky_relu>,
                   .cpu = vector<Function::leaky_relu>});
  registry.define({.signature = "sigmoid(x: T[*]) -> (y: T[*])",
                   .doc = "1 / (1 + exp(-x)). `y` may be the memory of x.",
                   .reference = reference<Function::sigmoid>,
                   .cpu = vector<Function::sigmoid>});
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
