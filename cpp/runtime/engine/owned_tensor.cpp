#include "runtime/engine/owned_tensor.hpp"

#include "runtime/engine/memory_limit.hpp"

namespace mambasdk::runtime {

OwnedTensor OwnedTensor::allocate(DType dtype, const std::int64_t* shape, int ndim, const Place& place) {
  OwnedTensor out;
  out.view = Tensor::contiguous(nullptr, dtype, shape, ndim);
  out.view.device = place.type();
  out.view.device_index = place.index;
  const std::size_t bytes = dense_bytes(out.view).bytes();
  auto* data = static_cast<std::byte*>(place.allocate(bytes));
  // Releases it also where there is no memory for the pointer's own block.
  out.memory = std::shared_ptr<std::byte[]>(data, [place, bytes](std::byte* p) { place.release(p, bytes); });
  out.view.data = data;
  return out;
}

}  // namespace mambasdk::runtime
