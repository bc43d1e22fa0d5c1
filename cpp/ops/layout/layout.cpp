#include "ops/layout/layout.hpp"

#include "core/registry.hpp"
#include "kernels/strided_copy.hpp"

namespace mambasdk {
namespace layout {

void vector_copy(const Tensor& from, const Tensor& to, const Context& context) {
  strided_copy(from, to, context.parallel());
}
void scalar_copy(const Tensor& from, const Tensor& to, const Context&) {
  reference_copy(from, to);
}

Tensor part(const Tensor& t, int d, std::int64_t start, std::int64_t length) {
  Tensor out = t;
  const auto dim = static_cast<std::size_t>(d < 0 ? d + t.ndim : d);
  out.shape[dim] = length;
  if (t.data != nullptr) out.data = t.ptr<std::byte>() + start * t.stride(d) * element_bytes(t.dtype);
  return out;
}

Tensor repeated(const Tensor& t, int d, std::int64_t at, std::int64_t length) {
  Tensor out = part(t, d, at, length);
  out.strides[static_cast<std::size_t>(d < 0 ? d + t.ndim : d)] = 0;
  return out;
}

namespace {

constexpr Declaration kCopy = "copy(x: T[*]) -> (y: T[*])";
constexpr Declaration kCopyIndices = "copy_indices(x: i32[*]) -> (y: i32[*])";
constexpr Declaration kFlip = "flip(x: T[*,L,D]) -> (y: T[*,L,D])";

template <const Declaration& kOp, Copy kWith>
void run_copy(const CallOf<kOp>& c) {
  kWith(c.template tensor<"x">(), c.template output<"y">(), c.context());
}

template <Copy kWith>
void run_flip(const CallOf<kFlip>& c) {
  kWith(c.tensor<"x">().mirrored(-2), c.output<"y">(), c.context());
}

}  // namespace
}  // namespace layout

void register_layout(Registry& registry) {
  using namespace layout;
  registry.define<kCopy>({
      .doc = "x in contiguous memory. For inference: it has no derivative.",
      .reference = run_copy<kCopy, scalar_copy>,
      .cpu = run_copy<kCopy, vector_copy>,
  });
  registry.define<kCopyIndices>({
      .doc = "x in contiguous memory.",
      .reference = run_copy<kCopyIndices, scalar_copy>,
      .cpu = run_copy<kCopyIndices, vector_copy>,
  });
  registry.define<kFlip>({
      .doc = "The rows of x in the opposite order: y[l] = x[L - 1 - l]. For inference: it has no derivative.",
      .reference = run_flip<scalar_copy>,
      .cpu = run_flip<vector_copy>,
  });
  register_concat(registry);
  register_pad(registry);
  register_indices(registry);
}

}  // namespace mambasdk
