#include "ops/causal_conv1d/reference.hpp"

#include <cmath>
#include <vector>

#include "core/element.hpp"

namespace mambasdk::causal_conv1d {

namespace {

std::int64_t offset(const Tensor& t, std::int64_t i, std::int64_t j, std::int64_t k) {
  return t.ndim == 3 ? i * t.stride(0) + j * t.stride(1) + k * t.stride(2)
                     : i * t.stride(0) + k * t.stride(1);  // the update's (B, D)
}
double at(const Tensor& t, std::int64_t i, std::int64_t j, std::int64_t k) {
  return load_element(t.data, t.dtype, offset(t, i, j, k));
}
void put(const Tensor& t, std::int64_t i, std::int64_t j, std::int64_t k, double value) {
  store_element(t.data, t.dtype, offset(t, i, j, k), value);
}

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

// One channel of one sequence, its K-1 earlier inputs in front.
struct Lane {
  std::vector<double> input;   // (K-1 + steps,)
  std::vector<double> weight;  // (K,)
  double bias = 0.0;

  [[nodiscard]] double preactivation(std::size_t t) const {
    double u = bias;
    for (std::size_t k = 0; k < weight.size(); ++k) u += weight[k] * input[t + k];
    return u;
  }
};

Lane lane_of(const Call& call, const Span& span, std::int64_t d) {
  Lane lane;
  const bool has_state = call.initial_state != nullptr && span.initial >= 0;
  for (std::int64_t j = 0; j < call.width - 1; ++j) {
    lane.input.push_back(has_state ? at(*call.initial_state, span.initial, j, d) : 0.0);
  }
  for (std::int64_t t = span.first; t < span.last; ++t) lane.input.push_back(at(*call.x, span.batch, t, d));
  for (int k = 0; k < call.width; ++k) {
    lane.weight.push_back(
        load_element(call.weight->data, call.weight->dtype, d * call.weight->stride(0) + k * call.weight->stride(1)));
  }
  if (call.bias != nullptr) lane.bias = load_element(call.bias->data, call.bias->dtype, d * call.bias->stride(0));
  return lane;
}

}  // namespace

void reference_forward(const Call& call, const Tensor& y) {
  clear_padding(call, y);
  for (std::int64_t s = 0; s < call.sequences(); ++s) {
    const Span span = sequence_span(call, s);
    for (std::int64_t d = 0; d < call.channels; ++d) {
      const Lane lane = lane_of(call, span, d);
      for (std::int64_t t = span.first; t < span.last; ++t) {
        const double u = lane.preactivation(static_cast<std::size_t>(t - span.first));
        const double activated = call.silu ? u * sigmoid(u) : u;
        put(y, span.batch, t, d,
            call.residual != nullptr ? activated + at(*call.residual, span.batch, t, d) : activated);
      }
    }
  }
}

void reference_backward(const Call& call, const Tensor& grad_y, const Tensor* grad_final_state, const Tensor& grad_x,
                        const Tensor& grad_weight, const Tensor& grad_bias, const Tensor& grad_initial_state) {
  clear_padding(call, grad_x);
  const auto width = static_cast<std::size_t>(call.width);
  for (std::int64_t d = 0; d < call.channels; ++d) {
    std::vector<double> grad_w(width, 0.0);
    double grad_b = 0.0;
    for (std::int64_t s = 0; s < call.sequences(); ++s) {
      const Span span = sequence_span(call, s);
      const Lane lane = lane_of(call, span, d);
      std::vector<double> grad_input(lane.input.size(), 0.0);
      for (std::size_t t = 0; t + width <= lane.input.size(); ++t) {
        double g = at(grad_y, span.batch, span.first + static_cast<std::int64_t>(t), d);
        if (call.silu) {
          const double u = lane.preactivation(t);
          g *= sigmoid(u) * (1.0 + u * (1.0 - sigmoid(u)));
        }
        grad_b += g;
        for (std::size_t k = 0; k < width; ++k) {
          grad_w[k] += g * lane.input[t + k];
          grad_input[t + k] += g * lane.weight[k];
        }
      }
      for (std::size_t j = 0; j < width - 1; ++j) {
        if (grad_final_state != nullptr && span.final >= 0) {
          const auto row = static_cast<std::int64_t>(j);
          grad_input[grad_input.size() - (width - 1) + j] += at(*grad_final_state, span.final, row, d);
        }
      }
      for (std::size_t i = 0; i < grad_input.size(); ++i) {
        const auto t = static_cast<std::int64_t>(i) - (call.width - 1);
        if (t >= 0) {
          put(grad_x, span.batch, span.first + t, d, grad_input[i]);
        } else if (grad_initial_state.data != nullptr && span.initial >= 0) {
          put(grad_initial_state, span.initial, static_cast<std::int64_t>(i), d, grad_input[i]);
        }
      }
    }
    for (int k = 0; k < call.width; ++k) put(grad_weight, d, 0, k, grad_w[static_cast<std::size_t>(k)]);
    if (grad_bias.data != nullptr) store_element(grad_bias.data, grad_bias.dtype, d, grad_b);
  }
}

}  // namespace mambasdk::causal_conv1d
