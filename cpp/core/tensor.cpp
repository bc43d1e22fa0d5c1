#include "core/tensor.hpp"

#include <cstring>

#include "core/error.hpp"

namespace mambasdk {

namespace {
struct Named {
  const char* name;
  DType dtype;
};
constexpr Named kNames[] = {{"f64", dtype::f64}, {"f32", dtype::f32},     {"bf16", dtype::bf16}, {"f16", dtype::f16},
                            {"c64", dtype::c64}, {"c128", dtype::c128},   {"i64", dtype::i64},   {"i32", dtype::i32},
                            {"u8", dtype::u8},   {"bool", dtype::boolean}};
}  // namespace

const char* dtype_name(DType dtype) {
  for (const Named& entry : kNames) {
    if (entry.dtype == dtype) return entry.name;
  }
  return "?";
}

bool dtype_from_name(const char* name, DType& out) {
  for (const Named& entry : kNames) {
    if (std::strcmp(entry.name, name) == 0) {
      out = entry.dtype;
      return true;
    }
  }
  return false;
}

Tensor Tensor::contiguous(void* data, DType dtype, const std::int64_t* shape, int ndim) {
  if (ndim < 0 || ndim > kMaxDims) {
    fail(ErrorCode::invalid_argument, "tensor has ", ndim, " dims; at most ", kMaxDims, " are supported");
  }
  Tensor t;
  t.data = data;
  t.dtype = dtype;
  t.ndim = ndim;
  std::int64_t stride = 1;
  for (int d = ndim - 1; d >= 0; --d) {
    const auto i = static_cast<std::size_t>(d);
    t.shape[i] = shape[d];
    t.strides[i] = stride;
    if (__builtin_mul_overflow(stride, shape[d] > 0 ? shape[d] : 1, &stride)) {
      fail(ErrorCode::invalid_argument, "a tensor with an extent of ", shape[d], " at ", d,
           " is larger than any memory");
    }
  }
  return t;
}

std::int64_t Tensor::numel() const {
  std::int64_t n = 1;
  for (int d = 0; d < ndim; ++d) n *= size(d);
  return n;
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
  if (out.data != nullptr && size(d) > 0) out.data = ptr<std::byte>() + (size(d) - 1) * step * (dtype.bits / 8);
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
