#include "ops/diagonal_scan/reference.hpp"

#include <complex>
#include <vector>

#include "core/element.hpp"

namespace mambasdk::diagonal_scan {
namespace {

using Number = std::complex<double>;

DType part_type(DType type) {
  return type == dtype::c128 ? dtype::f64 : type == dtype::c64 ? dtype::f32 : type;
}

// A dim of extent 1 repeats.
std::int64_t offset(const Tensor& t, std::int64_t i, std::int64_t j, std::int64_t k) {
  const std::int64_t index[3] = {i, j, k};
  std::int64_t at = 0;
  for (int d = 0; d < t.ndim; ++d) {
    const std::int64_t here = t.ndim == 2 && d == 1 ? k : index[d];
    at += (t.size(d) == 1 ? 0 : here) * t.stride(d);
  }
  return at;
}

Number get(const Tensor& t, std::int64_t i, std::int64_t j, std::int64_t k) {
  const std::int64_t at = offset(t, i, j, k);
  const DType part = part_type(t.dtype);
  if (part == t.dtype) return load_element(t.data, part, at);
  return {load_element(t.data, part, 2 * at), load_element(t.data, part, 2 * at + 1)};
}

void put(const Tensor& t, std::int64_t i, std::int64_t j, std::int64_t k, Number value) {
  const std::int64_t at = offset(t, i, j, k);
  const DType part = part_type(t.dtype);
  if (part == t.dtype) return store_element(t.data, part, at, value.real());
  store_element(t.data, part, 2 * at, value.real());
  store_element(t.data, part, 2 * at + 1, value.imag());
}

struct Span {
  std::int64_t batch, first, length;
};
std::vector<Span> spans_of(const Tensor& x, const std::vector<std::int32_t>& offsets) {
  std::vector<Span> out;
  if (offsets.empty()) {
    for (std::int64_t b = 0; b < x.size(0); ++b) out.push_back({b, 0, x.size(1)});
  }
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) out.push_back({0, offsets[s], offsets[s + 1] - offsets[s]});
  return out;
}

}  // namespace

void reference_forward(const Tensor& b, const Tensor& a, const Tensor& initial_state, bool reverse,
                       const std::vector<std::int32_t>& offsets, const Tensor& x, const Tensor& final_state) {
  const std::vector<Span> spans = spans_of(b, offsets);
  for (std::size_t s = 0; s < spans.size(); ++s) {
    const auto [batch, first, length] = spans[s];
    const auto sequence = static_cast<std::int64_t>(s);
    for (std::int64_t d = 0; d < b.size(2); ++d) {
      Number state = initial_state.data != nullptr ? get(initial_state, sequence, 0, d) : 0.0;
      for (std::int64_t i = 0; i < length; ++i) {
        const std::int64_t t = first + (reverse ? length - 1 - i : i);
        state = get(a, batch, t, d) * state + get(b, batch, t, d);
        put(x, batch, t, d, state);
      }
      if (final_state.data != nullptr) put(final_state, sequence, 0, d, state);
    }
  }
}

void reference_backward(const Tensor& grad_x, const Tensor& grad_final_state, const Tensor& a, const Tensor& x,
                        const Tensor& initial_state, bool reverse, const std::vector<std::int32_t>& offsets,
                        const Tensor& grad_b, const Tensor& grad_a, const Tensor& grad_initial_state) {
  const std::int64_t channels = x.size(2);
  std::vector<Number> sums(static_cast<std::size_t>(a.numel()));  // of grad_a, over the dims that a repeats in
  const std::vector<Span> spans = spans_of(x, offsets);
  for (std::size_t s = 0; s < spans.size(); ++s) {
    const auto [batch, first, length] = spans[s];
    const auto sequence = static_cast<std::int64_t>(s);
    for (std::int64_t d = 0; d < channels; ++d) {
      Number g = grad_final_state.data != nullptr ? get(grad_final_state, sequence, 0, d) : 0.0;
      for (std::int64_t i = length - 1; i >= 0; --i) {
        const std::int64_t t = first + (reverse ? length - 1 - i : i);
        g += get(grad_x, batch, t, d);
        put(grad_b, batch, t, d, g);
        Number before = 0.0;
        if (i > 0) {
          before = get(x, batch, reverse ? t + 1 : t - 1, d);
        } else if (initial_state.data != nullptr) {
          before = get(initial_state, sequence, 0, d);
        }
        sums[static_cast<std::size_t>(offset(grad_a, batch, t, d))] += g * std::conj(before);
        g *= std::conj(get(a, batch, t, d));
      }
      if (grad_initial_state.data != nullptr) put(grad_initial_state, sequence, 0, d, g);
    }
  }
  for (std::int64_t i = 0; i < a.size(0); ++i)
    for (std::int64_t j = 0; j < a.size(1); ++j)
      for (std::int64_t d = 0; d < channels; ++d)
        put(grad_a, i, j, d, sums[static_cast<std::size_t>(offset(grad_a, i, j, d))]);
}

}  // namespace mambasdk::diagonal_scan
