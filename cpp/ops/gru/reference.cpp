#include "ops/gru/reference.hpp"

#include <cmath>
#include <vector>

#include "core/element.hpp"

namespace mambasdk::gru {
namespace {

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

// h weight^T + bias for one row of the batch.
std::vector<double> recurrent_gates(const Args& a, const std::vector<double>& h) {
  std::vector<double> out(static_cast<std::size_t>(3 * a.units));
  for (std::int64_t o = 0; o < 3 * a.units; ++o) {
    double sum = a.bias.data != nullptr ? load_element(a.bias.data, a.weight_type, o * a.bias.stride[0]) : 0.0;
    for (std::int64_t i = 0; i < a.units; ++i)
      sum += load_element(a.weight.data, a.weight_type, o * a.weight.stride[0] + i * a.weight.stride[1]) *
             h[static_cast<std::size_t>(i)];
    out[static_cast<std::size_t>(o)] = sum;
  }
  return out;
}

}  // namespace

void reference_gru(const Args& a) {
  const auto units = static_cast<std::size_t>(a.units);
  for (std::int64_t b = 0; b < a.batch; ++b) {
    const std::int64_t steps = a.lengths != nullptr ? a.lengths[b] : a.length;
    std::vector<double> h(units, 0.0);
    for (std::size_t j = 0; j < units && a.initial.data != nullptr; ++j)
      h[j] = load_element(a.initial.data, a.type,
                          b * a.initial.stride[0] + static_cast<std::int64_t>(j) * a.initial.stride[1]);
    for (std::int64_t i = 0; i < steps; ++i) {
      const std::int64_t t = a.reverse ? steps - 1 - i : i;
      const std::vector<double> gates = recurrent_gates(a, h);
      for (std::size_t j = 0; j < units; ++j) {
        const auto input = [&](std::int64_t part) {
          const std::int64_t unit = part * a.units + static_cast<std::int64_t>(j);
          return load_element(a.gates.data, a.type,
                              b * a.gates.stride[0] + t * a.gates.stride[1] + unit * a.gates.stride[2]);
        };
        const double r = sigmoid(input(0) + gates[j]), z = sigmoid(input(1) + gates[units + j]);
        const double n = std::tanh(input(2) + r * gates[2 * units + j]);
        h[j] = n + z * (h[j] - n);
        store_element(a.y, a.type, (b * a.length + t) * a.units + static_cast<std::int64_t>(j), h[j]);
      }
    }
    for (std::int64_t i = steps * a.units; i < a.length * a.units; ++i)
      store_element(a.y, a.type, b * a.length * a.units + i, 0.0);
    for (std::size_t j = 0; j < units; ++j)
      store_element(a.last, a.type, b * a.units + static_cast<std::int64_t>(j), h[j]);
  }
}

}  // namespace mambasdk::gru
