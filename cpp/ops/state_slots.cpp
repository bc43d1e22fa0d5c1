#include "ops/state_slots.hpp"

#include <algorithm>
#include <cstring>

#include "core/element.hpp"
#include "core/extent.hpp"

namespace mambasdk {
namespace {

// f(offset in the tensor, place in the row) for every element of row `row` of dim 0.
template <class F>
void for_row(const Tensor& t, std::int64_t row, F&& f) {
  std::int64_t size = 1;
  for (int d = 1; d < t.ndim; ++d) size *= t.size(d);
  for (std::int64_t i = 0; i < size; ++i) {
    std::int64_t offset = row * t.stride(0), rest = i;
    for (int d = t.ndim - 1; d > 0; --d) {
      offset += rest % t.size(d) * t.stride(d);
      rest /= t.size(d);
    }
    f(offset, i);
  }
}

}  // namespace

StateSlots state_slots(const Tensor& state_indices, std::int64_t padding) {
  StateSlots out;
  for (std::int64_t b = 0; b < state_indices.size(0); ++b) {
    const std::int32_t slot = state_indices.ptr<const std::int32_t>()[b * state_indices.stride(0)];
    const bool padded = slot == padding;
    out.of_row.push_back(padded ? -1 : slot);
    if (padded) continue;
    out.rows.push_back(b);
    out.slots.push_back(slot);
  }
  return out;
}

void check_state_indices(const NamedTensor& state_indices, std::int64_t padding, std::int64_t pool) {
  const Tensor* indices = state_indices.tensor;
  if (indices == nullptr || indices->data == nullptr || indices->device != Device::cpu) return;
  std::vector<std::int64_t> taken;
  for (std::int64_t b = 0; b < indices->size(0); ++b) {
    const std::int64_t slot = indices->ptr<const std::int32_t>()[b * indices->stride(0)];
    if (slot == padding) continue;
    if (slot < 0 || slot >= pool) {
      fail(ErrorCode::invalid_argument, state_indices.operation, ": state_indices[", b, "] is ", slot,
           ", expected a slot in [0, ", pool, ") of state, or ", padding, " for a padded row");
    }
    taken.push_back(slot);
  }
  std::sort(taken.begin(), taken.end());
  if (const auto twice = std::adjacent_find(taken.begin(), taken.end()); twice != taken.end()) {
    fail(ErrorCode::invalid_argument, state_indices.operation, ": state_indices has slot ", *twice,
         " more than once, expected a slot of its own for every row");
  }
}

RowCopy empty_rows(const Context& context, const Tensor& like, std::int64_t rows, DType type) {
  std::int64_t shape[kMaxDims];
  Extent bytes = Extent(rows) * (type.bits / 8);
  shape[0] = rows;
  for (int d = 1; d < like.ndim; ++d) bytes *= shape[d] = like.size(d);
  RowCopy out{context.workspace(bytes.bytes()), {}};
  out.tensor = Tensor::contiguous(out.memory.get(), type, shape, like.ndim);
  return out;
}

RowCopy take_rows(const Context& context, const Tensor& from, const std::vector<std::int64_t>& rows, DType type) {
  RowCopy out = empty_rows(context, from, static_cast<std::int64_t>(rows.size()), type);
  std::int64_t to = 0;
  for (const std::int64_t row : rows)
    for_row(from, row, [&](std::int64_t offset, std::int64_t) {
      store_element(out.tensor.data, type, to++, load_element(from.data, from.dtype, offset));
    });
  return out;
}

void put_rows(const Tensor& to, const std::vector<std::int64_t>& rows, const Tensor& from) {
  std::int64_t place = 0;
  for (const std::int64_t row : rows)
    for_row(to, row, [&](std::int64_t offset, std::int64_t) {
      store_element(to.data, to.dtype, offset, load_element(from.data, from.dtype, place++));
    });
}

void clear_rows(const Tensor& to) {
  if (to.nbytes() > 0) std::memset(to.data, 0, static_cast<std::size_t>(to.nbytes()));
}

void copy_states(const Context& context, const Tensor& to, const Tensor& from) {
  if (to.data == from.data) return;
  const std::int64_t rows = to.size(0), bytes = to.dtype.bits / 8;
  if (to.numel() == 0) return;
  const std::int64_t row_bytes = to.numel() / rows * bytes;
  Tensor row = from;  // whether its rows are contiguous
  row.shape[0] = 1;
  const bool whole = row.is_contiguous();
  const auto copy = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      std::byte* out = to.ptr<std::byte>() + r * row_bytes;
      const auto* in = from.ptr<const std::byte>();
      if (whole) {
        std::memcpy(out, in + r * from.stride(0) * bytes, static_cast<std::size_t>(row_bytes));
      } else {
        for_row(from, r, [&](std::int64_t offset, std::int64_t i) {
          std::memcpy(out + i * bytes, in + offset * bytes, static_cast<std::size_t>(bytes));
        });
      }
    }
  };
  context.parallel()(rows, std::max<std::int64_t>(1, (1 << 18) / std::max<std::int64_t>(row_bytes, 1)), copy);
}

}  // namespace mambasdk
