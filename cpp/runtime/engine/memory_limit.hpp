// How much memory a package may take: what it asks for is counted before it is allocated.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/extent.hpp"
#include "core/tensor.hpp"

namespace mambasdk::runtime {

// Three quarters of the memory that this process may use: of the machine's, or of its control group where that is less.
[[nodiscard]] std::uint64_t default_memory_limit() noexcept;

// Error(out_of_memory), with the bytes that `what` wanted and the way to allow them, where they are more than `limit`.
void check_memory(Extent wanted, std::uint64_t limit, std::string_view what);

// Bytes of a dense tensor of this shape. Error(invalid_argument) for a negative extent and where 63 bits do not hold
// it.
[[nodiscard]] Extent dense_bytes(DType dtype, const std::int64_t* shape, int ndim);
[[nodiscard]] inline Extent dense_bytes(const Tensor& t) {
  return dense_bytes(t.dtype, t.shape.data(), t.ndim);
}

}  // namespace mambasdk::runtime
