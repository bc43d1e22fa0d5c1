// One-step updates whose states stand in a pool: row b of the batch has the state in slot state_indices[b], and a row
// with the padding index has none. Padded rows are left out of what is computed, and get outputs of 0.
#pragma once

#include <cstdint>
#include <vector>

#include "core/call.hpp"

namespace mambasdk {

// The rows of a batch that have a slot, in order, and those slots.
struct StateSlots {
  std::vector<std::int64_t> rows, slots;
  // slots[i] for row i, -1 for a padded row.
  std::vector<std::int32_t> of_row;
};
[[nodiscard]] StateSlots state_slots(const Tensor& state_indices, std::int64_t padding);
// Slots lie in [0, pool) or are `padding`, and no two rows share one. Throws Error(invalid_argument).
void check_state_indices(const NamedTensor& state_indices, std::int64_t padding, std::int64_t pool);

// A contiguous copy of rows of dim 0 in another dtype, and its memory.
struct RowCopy {
  Context::Workspace memory;
  Tensor tensor;
};
[[nodiscard]] RowCopy empty_rows(const Context& context, const Tensor& like, std::int64_t rows, DType type);
[[nodiscard]] RowCopy take_rows(const Context& context, const Tensor& from, const std::vector<std::int64_t>& rows,
                                DType type);
// Row rows[i] of `to` becomes row i of `from`, rounded to the dtype of `to`.
void put_rows(const Tensor& to, const std::vector<std::int64_t>& rows, const Tensor& from);
void clear_rows(const Tensor& to);
// Every element, unless both are the same memory.
void copy_states(const Context& context, const Tensor& to, const Tensor& from);

}  // namespace mambasdk
