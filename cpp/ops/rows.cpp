#include "ops/rows.hpp"

#include "core/tensor.hpp"

namespace mambasdk {

std::int64_t row_count(const Tensor& t) {
  std::int64_t rows = 1;
  for (int d = 0; d < t.ndim - 1; ++d) rows *= t.size(d);
  return rows;
}

std::int64_t row_offset(const Tensor& t, std::int64_t r) {
  std::int64_t offset = 0;
  for (int d = t.ndim - 2; d >= 0; --d) {
    offset += r % t.size(d) * t.stride(d);
    r /= t.size(d);
  }
  return offset;
}

Rows rows_view(const Tensor* t, std::vector<std::int64_t>& offsets) {
  if (t == nullptr) return {};
  Rows rows{t->data, nullptr, 0, t->ndim > 0 ? t->stride(-1) : 1, t->dtype};
  bool first = true;
  bool uniform = true;
  std::int64_t expected = 0;  // stride that continues the dims seen so far
  for (int d = t->ndim - 2; d >= 0; --d) {
    if (t->size(d) == 1) continue;  // its stride says nothing
    if (first) {
      first = false;
      rows.stride = t->stride(d);
    } else if (t->stride(d) != expected) {
      uniform = false;
    }
    expected = t->stride(d) * t->size(d);
  }
  if (!uniform) {
    const std::int64_t n = row_count(*t);
    offsets.resize(static_cast<std::size_t>(n));
    for (std::int64_t r = 0; r < n; ++r) offsets[static_cast<std::size_t>(r)] = row_offset(*t, r);
    rows.offset = offsets.data();
  }
  return rows;
}

}  // namespace mambasdk
