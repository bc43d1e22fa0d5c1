#include "ops/mirror.hpp"

namespace mambasdk {

Tensor mirrored_offsets(const Tensor& cu_seqlens, std::vector<std::int32_t>& storage) {
  const std::int64_t count = cu_seqlens.size(0);
  const auto offset = [&](std::int64_t i) { return cu_seqlens.ptr<const std::int32_t>()[i * cu_seqlens.stride(0)]; };
  storage.clear();
  for (std::int64_t i = count - 1; i >= 0; --i) storage.push_back(offset(count - 1) - offset(i));
  return Tensor::contiguous(storage.data(), dtype::i32, &count, 1);
}

}  // namespace mambasdk
