#include "ops/channel_last.hpp"

#include <vector>

#include "core/extent.hpp"
#include "ops/rows.hpp"

namespace mambasdk {

Tensor channel_last(const Tensor& x, const Context& context, Context::Workspace& scratch, bool always) {
  if (!always && (x.stride(-1) == 1 || x.size(-1) <= 1)) return x;
  scratch = context.workspace((Extent(x.numel()) * (x.dtype.bits / 8)).bytes());
  std::vector<std::int64_t> offsets;
  MAMBASDK_PICK(copy_rows)(rows_view(&x, offsets), row_count(x), x.size(-1), scratch.get(), context.parallel());
  return Tensor::contiguous(scratch.get(), x.dtype, x.shape.data(), x.ndim);
}

Map map_of(const Tensor& x) {
  Map map{.data = x.data,
          .type = x.dtype,
          .batch = x.size(0),
          .channels = x.size(4),
          .size = {x.size(1), x.size(2), x.size(3)},
          .batch_stride = x.stride(0),
          .stride = {x.stride(1), x.stride(2), x.stride(3)}};
  return map;
}

}  // namespace mambasdk
