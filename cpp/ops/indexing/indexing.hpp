// Elements and rows by their indices, and the orders of elements.
#pragma once

#include <cstdint>

#include "core/call.hpp"
#include "ops/matrices.hpp"

namespace mambasdk {

class Registry;
void register_indexing(Registry& registry);

namespace indexing {

void register_gather(Registry& registry);
void register_scatter(Registry& registry);
void register_sort(Registry& registry);
void register_topk(Registry& registry);

// Every element of `index`, an int32 (*, L, D) tensor, is in [0, count), `what` being counted.
void check_indices(const NamedTensor& index, std::int64_t count, std::string_view what);

// Indices, in matrices. Whole rows are indexed where an index holds for all columns.
inline bool is_by_row(const Matrices& index) {
  return index.columns == 1 || index.column_stride == 0;
}
inline std::int64_t index_at(const Matrices& index, std::int64_t m, std::int64_t row, std::int64_t column) {
  return static_cast<const std::int32_t*>(index.matrix.data)[index.offset(m, row, column)];
}

// f(a value of an integer type of `bytes`): elements that are moved as they are.
template <class F>
void with_bits(std::int64_t bytes, F&& f) {
  if (bytes == 2) return f(std::uint16_t{});
  if (bytes == 4) return f(std::uint32_t{});
  return f(std::uint64_t{});
}

}  // namespace indexing
}  // namespace mambasdk
