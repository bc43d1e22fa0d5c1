#include "ops/rows.hpp"

#include <array>

#include "core/extent.hpp"
#include "core/tensor.hpp"

namespace mambasdk {

std::int64_t row_count(const Tensor& t) {
  Extent rows = 1;
  for (int d = 0; d < t.ndim - 1; ++d) rows *= t.size(d);
  return rows.value();
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
  if (t->numel() == 0) return rows;  // there may be 2^60 rows of nothing
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
    offsets.resize(static_cast<std::size_t>(row_count(*t)));
    std::array<std::int64_t, kMaxDims> at{};  // the row's index, counted up without divisions
    std::int64_t offset = 0;
    for (std::int64_t& out : offsets) {
      out = offset;
      for (int d = t->ndim - 2; d >= 0; --d) {
        std::int64_t& index = at[static_cast<std::size_t>(d)];
        offset += t->stride(d);
        if (++index < t->size(d)) break;
        offset -= index * t->stride(d);
        index = 0;
      }
    }
    rows.offset = offsets.data();
  }
  return rows;
}

}  // namespace mambasdk
