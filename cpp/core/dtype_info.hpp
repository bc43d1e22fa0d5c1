// What the table of element types (core/dtype_table.hpp) says of a type: names, sizes, and whether operations take it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/dtype.hpp"
#include "core/extent.hpp"

namespace mambasdk {

enum class DTypeUse { computed, held };

// A line of the table.
struct DTypeInfo {
  DType dtype;
  std::string_view name;
  std::int64_t block;  // neighbours of the last dim that `bytes` bytes hold together
  std::int64_t bytes;
  std::string_view stored;  // in safetensors, "" where the format lacks it
  DTypeUse use;

  // What the address of a block is a multiple of.
  [[nodiscard]] constexpr std::int64_t alignment() const { return bytes & -bytes; }
};

[[nodiscard]] std::span<const DTypeInfo> dtype_table() noexcept;
// Error: unsupported for a type that the table lacks.
[[nodiscard]] const DTypeInfo& dtype_info(DType type);
// Null where the table has no such line.
[[nodiscard]] const DTypeInfo* find_dtype(DType type) noexcept;
[[nodiscard]] const DTypeInfo* find_dtype_named(std::string_view name) noexcept;
[[nodiscard]] const DTypeInfo* find_dtype_stored_as(std::string_view stored) noexcept;

// "f32"; "DLPack code 3 with 64 bits" for a type that the table lacks.
[[nodiscard]] std::string dtype_name(DType type);
// Whether `name` is a type that operations take; then `out` is it.
[[nodiscard]] bool dtype_from_name(std::string_view name, DType& out) noexcept;

// Bytes of one element. Error: unsupported for a type that is unknown or whose elements have no addresses.
[[nodiscard]] std::int64_t element_bytes(DType type);
// Bytes of so many elements that lie one behind the other. Errors: unsupported for an unknown type, invalid_argument
// for a part of a block.
[[nodiscard]] Extent storage_bytes(DType type, Extent elements);

}  // namespace mambasdk
