#include "ops/norm/reference.hpp"

#include <cmath>
#include <vector>

#include "core/element.hpp"
#include "ops/rows.hpp"

namespace mambasdk::norm {

namespace {

using Row = std::vector<double>;

Row read(const Tensor& t, std::int64_t r) {
  const auto n = static_cast<std::size_t>(t.size(-1));
  const std::int64_t first = t.ndim == 1 ? 0 : row_offset(t, r);
  Row row(n);
  for (std::size_t i = 0; i < n; ++i) {
    row[i] = load_element(t.data, t.dtype, first + static_cast<std::int64_t>(i) * t.stride(-1));
  }
  return row;
}

void write(const Tensor& t, std::int64_t r, const Row& row) {
  if (t.data == nullptr) return;
  const auto first = r * static_cast<std::int64_t>(row.size());
  for (std::size_t i = 0; i < row.size(); ++i)
    store_element(t.data, t.dtype, first + static_cast<std::int64_t>(i), row[i]);
}

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

// x^ = (v - mean) / sqrt(variance + eps) of every group, and 1 / sqrt(variance + eps) per channel.
struct Normalized {
  Row x, rstd;
};

Normalized normalize(const Call& call, const Row& v) {
  const auto group = static_cast<std::size_t>(call.group_size);
  Normalized out{Row(v.size()), Row(v.size())};
  for (std::size_t begin = 0; begin < v.size(); begin += group) {
    double mean = 0.0, square = 0.0;
    if (call.subtract_mean) {
      for (std::size_t i = begin; i < begin + group; ++i) mean += v[i];
      mean /= static_cast<double>(group);
    }
    for (std::size_t i = begin; i < begin + group; ++i) square += (v[i] - mean) * (v[i] - mean);
    const double rstd = 1.0 / std::sqrt(square / static_cast<double>(group) + call.eps);
    for (std::size_t i = begin; i < begin + group; ++i) {
      out.x[i] = (v[i] - mean) * rstd;
      out.rstd[i] = rstd;
    }
  }
  return out;
}

Row weights(const Tensor* t, std::size_t n, double absent) {
  return t != nullptr ? read(*t, 0) : Row(n, absent);
}

}  // namespace

void reference_forward(const Call& call, const Tensor& y, const Tensor& residual_out) {
  const auto n = static_cast<std::size_t>(call.channels);
  const Row weight = weights(call.weight, n, 1.0);
  const Row bias = weights(call.bias, n, 0.0);
  for (std::int64_t r = 0; r < call.rows && n > 0; ++r) {
    Row v = read(*call.x, r);
    if (call.residual != nullptr) {
      const Row residual = read(*call.residual, r);
      for (std::size_t i = 0; i < n; ++i) v[i] += residual[i];
      write(residual_out, r, v);
      const std::int64_t first = r * call.channels;  // the norm is of the sum as it was stored
      for (std::size_t i = 0; i < n; ++i) {
        v[i] = load_element(residual_out.data, residual_out.dtype, first + static_cast<std::int64_t>(i));
      }
    }
    Row gate(n, 1.0);
    if (call.z != nullptr) {
      const Row z = read(*call.z, r);
      for (std::size_t i = 0; i < n; ++i) gate[i] = (call.sigmoid_gate ? 1.0 : z[i]) * sigmoid(z[i]);
    }
    if (!call.norm_before_gate) {
      for (std::size_t i = 0; i < n; ++i) v[i] *= gate[i];
    }
    const Normalized normalized = normalize(call, v);
    Row out(n);
    for (std::size_t i = 0; i < n; ++i) {
      out[i] = normalized.x[i] * weight[i] + bias[i];
      if (call.norm_before_gate) out[i] *= gate[i];
    }
    write(y, r, out);
  }
}

void reference_backward(const Call& call, const Gradients& g) {
  const auto n = static_cast<std::size_t>(call.channels);
  const auto group = static_cast<std::size_t>(call.group_size);
  const Row weight = weights(call.weight, n, 1.0);
  const Row bias = weights(call.bias, n, 0.0);
  Row grad_weight(n, 0.0), grad_bias(n, 0.0);
  for (std::int64_t r = 0; r < call.rows && n > 0; ++r) {
    const Row h = read(call.residual != nullptr ? *call.residual : *call.x, r);
    const Row grad_y = read(g.grad_y, r);
    Row gate(n, 1.0), slope(n, 0.0);
    if (call.z != nullptr) {
      const Row z = read(*call.z, r);
      for (std::size_t i = 0; i < n; ++i) {
        const double s = sigmoid(z[i]);
        gate[i] = call.sigmoid_gate ? s : z[i] * s;
        slope[i] = call.sigmoid_gate ? s * (1.0 - s) : s * (1.0 + z[i] * (1.0 - s));
      }
    }
    Row v = h;
    if (!call.norm_before_gate) {
      for (std::size_t i = 0; i < n; ++i) v[i] *= gate[i];
    }
    const Normalized normalized = normalize(call, v);
    Row grad_v(n), grad_h(n), grad_z(n);
    for (std::size_t begin = 0; begin < n; begin += group) {
      double mean_g = 0.0, mean_gx = 0.0;
      for (std::size_t i = begin; i < begin + group; ++i) {
        const double grad = call.norm_before_gate ? grad_y[i] * gate[i] : grad_y[i];
        grad_weight[i] += grad * normalized.x[i];
        grad_bias[i] += grad;
        grad_v[i] = grad * weight[i];
        mean_g += grad_v[i] / static_cast<double>(group);
        mean_gx += grad_v[i] * normalized.x[i] / static_cast<double>(group);
      }
      if (!call.subtract_mean) mean_g = 0.0;
      for (std::size_t i = begin; i < begin + group; ++i) {
        grad_v[i] = normalized.rstd[i] * (grad_v[i] - mean_g - normalized.x[i] * mean_gx);
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      if (call.norm_before_gate) {
        grad_h[i] = grad_v[i];
        grad_z[i] = grad_y[i] * (normalized.x[i] * weight[i] + bias[i]) * slope[i];
      } else {
        grad_h[i] = grad_v[i] * gate[i];
        grad_z[i] = grad_v[i] * h[i] * slope[i];
      }
    }
    if (g.grad_residual_out != nullptr) {
      const Row more = read(*g.grad_residual_out, r);
      for (std::size_t i = 0; i < n; ++i) grad_h[i] += more[i];
    }
    write(g.grad_x, r, grad_h);
    write(g.grad_residual, r, grad_h);
    write(g.grad_z, r, grad_z);
  }
  write(g.grad_weight, 0, grad_weight);
  write(g.grad_bias, 0, grad_bias);
}

}  // namespace mambasdk::norm
