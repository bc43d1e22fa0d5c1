#include "kernels/strided_copy.hpp"

#include <array>
#include <cstring>

#include "core/tensor.hpp"

namespace mambasdk {
namespace {

// Writes of a transposed tile should be long: with 64 columns instead of 512 they take twice as long.
constexpr Tiling::Shape kTile{16384, 16384, 512};

}  // namespace

void strided_copy(const Tensor& from, const Tensor& to, const Parallel& parallel) {
  if (to.numel() == 0) return;
  const Tensor* const tensors[] = {&to, &from};
  const CopyArgs args{.tiles = tiling_of(tensors, kTile),
                      .element_bytes = static_cast<int>(element_bytes(from.dtype)),
                      .from = from.data,
                      .to = to.data};
  MAMBASDK_PICK(copy_tiles)(args, parallel);
}

void reference_copy(const Tensor& from, const Tensor& to) {
  const std::int64_t size = element_bytes(from.dtype);
  std::array<std::int64_t, kMaxDims> at{};
  for (std::int64_t n = to.numel(); n > 0; --n) {
    std::int64_t source = 0, target = 0;
    for (int d = 0; d < to.ndim; ++d) {
      source += at[static_cast<std::size_t>(d)] * from.stride(d);
      target += at[static_cast<std::size_t>(d)] * to.stride(d);
    }
    std::memcpy(to.ptr<std::byte>() + target * size, from.ptr<const std::byte>() + source * size,
                static_cast<std::size_t>(size));
    for (int d = to.ndim - 1; d >= 0 && ++at[static_cast<std::size_t>(d)] == to.size(d); --d) {
      at[static_cast<std::size_t>(d)] = 0;
    }
  }
}

}  // namespace mambasdk
