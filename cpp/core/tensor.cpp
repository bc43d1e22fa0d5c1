#include "core/tensor.hpp"

#include "core/dtype_info.hpp"
#include "core/error.hpp"

namespace mambasdk {

Tensor Tensor::contiguous(void* data, DType dtype, const std::int64_t* shape, int ndim) {
  if (ndim < 0 || ndim > kMaxDims) {
    fail(ErrorCode::invalid_argument, "tensor has ", ndim, " dims; at most ", kMaxDims, " are supported");
  }
  Tensor t;
  t.data = data;
  t.dtype = dtype;
  t.ndim = ndim;
  const std::int64_t block_bytes = dtype_info(dtype).bytes;
  std::int64_t stride = 1;
  for (int d = ndim - 1; d >= 0; --d) {
    const auto i = static_cast<std::size_t>(d);
    t.shape[i] = shape[d];
    t.strides[i] = stride;
    std::int64_t bytes = 0;
    if (__builtin_mul_overflow(stride, shape[d] > 0 ? shape[d] : 1, &stride) ||
        __builtin_mul_overflow(stride, block_bytes, &bytes)) {
      fail(ErrorCode::invalid_argument, "a tensor with an extent of ", shape[d], " at ", d,
           " is larger than any memory");
    }
  }
  return t;
}

std::int64_t Tensor::numel() const {
  Extent n = 1;
  for (int d = 0; d < ndim; ++d) {
    if (size(d) == 0) return 0;
    n *= size(d);
  }
  return n.value();
}

std::int64_t Tensor::nbytes() const {
  return storage_bytes(dtype, numel()).value();
}

bool Tensor::is_addressable() const noexcept {
  const DTypeInfo* info = find_dtype(dtype);
  if (info == nullptr) return false;
  const std::int64_t element = info->bytes;           // or block, which is more
  std::int64_t bytes = element, first = 0, last = 0;  // offsets in bytes of the lowest and the highest element
  bool empty = false;
  for (int d = 0; d < ndim; ++d) empty = empty || size(d) == 0;
  for (int d = 0; d < ndim; ++d) {
    if (size(d) > 1 && __builtin_mul_overflow(bytes, size(d), &bytes)) return false;
    std::int64_t reach = 0;
    if (empty || size(d) <= 1) continue;
    if (__builtin_mul_overflow(size(d) - 1, stride(d), &reach) || __builtin_mul_overflow(reach, element, &reach)) {
      return false;
    }
    std::int64_t& end = reach < 0 ? first : last;
    if (__builtin_add_overflow(end, reach, &end)) return false;
  }
  return true;
}

bool Tensor::is_contiguous() const {
  std::int64_t expected = 1;
  for (int d = ndim - 1; d >= 0; --d) {
    if (size(d) == 0) return true;
    if (size(d) != 1 && stride(d) != expected) return false;
    expected *= size(d);
  }
  return true;
}

Tensor Tensor::mirrored(int d) const {
  Tensor out = *this;
  const std::int64_t step = stride(d);
  if (out.data != nullptr && size(d) > 0) out.data = ptr<std::byte>() + (size(d) - 1) * step * element_bytes(dtype);
  out.strides[static_cast<std::size_t>(d < 0 ? d + ndim : d)] = -step;
  return out;
}

std::string Tensor::shape_text() const {
  std::string text = "(";
  for (int d = 0; d < ndim; ++d) {
    if (d > 0) text += ", ";
    text += std::to_string(size(d));
  }
  return text + (ndim == 1 ? ",)" : ")");
}

}  // namespace mambasdk
