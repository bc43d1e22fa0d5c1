#include "ops/tokens/tokens.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/element.hpp"
#include "core/registry.hpp"

namespace mambasdk {
namespace tokens {
namespace {

// ---- unfold2d: x, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w ----

void check_unfold(const OpCall& c) {
  const char* names[] = {"kernel_h", "kernel_w", "stride_h", "stride_w", "padding_h", "padding_w"};
  for (int i = 0; i < 6; ++i) {
    const std::int64_t least = i < 4 ? 1 : 0;
    if (c.integer(i + 1) < least) {
      fail(ErrorCode::invalid_argument, c.signature.name, ": ", names[i], " is ", c.integer(i + 1),
           ", expected at least ", least);
    }
  }
  for (int i = 0; i < 2; ++i) {
    const std::int64_t extent = c.dim(i == 0 ? "H" : "W") + 2 * c.integer(5 + i);
    if (c.integer(1 + i) > extent) {
      fail(ErrorCode::invalid_argument, c.signature.name, ": ", names[i], " is ", c.integer(1 + i),
           ", expected at most ", extent, ", the ", i == 0 ? "height" : "width", " of x with its padding");
    }
  }
}

UnfoldArgs unfold_args(const OpCall& c) {
  const Tensor& x = c.tensor(0);
  UnfoldArgs a;
  a.batch = c.dim("B");
  a.channels = c.dim("C");
  a.height = c.dim("H");
  a.width = c.dim("W");
  for (int i = 0; i < 2; ++i) {
    a.kernel[i] = c.integer(1 + i);
    a.stride[i] = c.integer(3 + i);
    a.padding[i] = c.integer(5 + i);
  }
  a.out_height = c.output(0).size(1);
  a.out_width = c.output(0).size(2);
  a.element_bytes = x.dtype.bits / 8;
  a.x = x.data;
  for (int d = 0; d < 4; ++d) a.x_stride[d] = x.stride(d);
  a.y = c.output(0).data;
  return a;
}

void reference_unfold(const OpCall& c) {
  const UnfoldArgs a = unfold_args(c);
  const Tensor &x = c.tensor(0), &y = c.output(0);
  std::int64_t to = 0;
  for (std::int64_t b = 0; b < a.batch; ++b)
    for (std::int64_t i = 0; i < a.out_height; ++i)
      for (std::int64_t j = 0; j < a.out_width; ++j)
        for (std::int64_t k = 0; k < a.channels; ++k)
          for (std::int64_t u = 0; u < a.kernel[0]; ++u)
            for (std::int64_t v = 0; v < a.kernel[1]; ++v, ++to) {
              const std::int64_t h = i * a.stride[0] + u - a.padding[0], w = j * a.stride[1] + v - a.padding[1];
              const bool inside = h >= 0 && h < a.height && w >= 0 && w < a.width;
              const std::int64_t from = b * x.stride(0) + k * x.stride(1) + h * x.stride(2) + w * x.stride(3);
              store_element(y.data, y.dtype, to, inside ? load_element(x.data, x.dtype, from) : 0.0);
            }
}

void vector_unfold(const OpCall& c) {
  MAMBASDK_PICK(unfold2d)(unfold_args(c), c.context.parallel());
}

// ---- concat_rows: x, y. A copy, the same for every kernel and dtype ----

void concat_rows(const OpCall& c) {
  const Tensor &x = c.tensor(0), &y = c.tensor(1), &out = c.output(0);
  const std::int64_t first = c.dim("L"), second = c.dim("M"), columns = c.dim("D"), rows = first + second;
  const std::int64_t size = out.dtype.bits / 8, bytes = columns * size;
  if (out.numel() == 0) return;
  const auto copy_row = [&](std::byte* to, const Tensor& from, std::int64_t row) {
    const auto* source = from.ptr<const std::byte>() + row_offset(from, row) * size;
    const std::int64_t stride = from.stride(-1) * size;
    if (stride == size) {
      std::memcpy(to, source, static_cast<std::size_t>(bytes));
      return;
    }
    for (std::int64_t d = 0; d < columns; ++d)
      std::memcpy(to + d * size, source + d * stride, static_cast<std::size_t>(size));
  };
  const bool x_solid = x.is_contiguous(), y_solid = y.is_contiguous();
  // Rows [begin, end) of one part of the output's matrix `matrix`: in one piece where they are so in memory.
  const auto copy_rows = [&](std::int64_t matrix, std::int64_t begin, std::int64_t end, bool from_x) {
    if (begin >= end) return;
    const Tensor& from = from_x ? x : y;
    std::byte* to = out.ptr<std::byte>() + (matrix * rows + begin) * bytes;
    const std::int64_t row = matrix * (from_x ? first : second) + (from_x ? begin : begin - first);
    if (from_x ? x_solid : y_solid) {
      std::memcpy(to, from.ptr<const std::byte>() + row * bytes, static_cast<std::size_t>((end - begin) * bytes));
      return;
    }
    for (std::int64_t i = 0; i < end - begin; ++i) copy_row(to + i * bytes, from, row + i);
  };
  const std::int64_t grain = std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, bytes));
  c.context.parallel()(out.numel() / columns, grain, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t matrix = begin / rows, stop = std::min(end, (matrix + 1) * rows);
      const std::int64_t from = begin - matrix * rows, to = stop - matrix * rows;
      copy_rows(matrix, from, std::min(to, first), true);
      copy_rows(matrix, std::max(from, first), to, false);
      begin = stop;
    }
  });
}

// ---- mean_rows: x ----

void reference_mean(const OpCall& c) {
  const Tensor &x = c.tensor(0), &y = c.output(0);
  const std::int64_t rows = c.dim("L"), columns = c.dim("D");
  const std::int64_t count = columns > 0 ? y.numel() / columns : 0;
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t d = 0; d < columns; ++d) {
      double sum = 0.0;
      for (std::int64_t r = 0; r < rows; ++r) {
        sum += load_element(x.data, x.dtype, row_offset(x, i * rows + r) + d * x.stride(-1));
      }
      store_element(y.data, y.dtype, i * columns + d, sum / static_cast<double>(std::max<std::int64_t>(rows, 1)));
    }
  }
}

void vector_mean(const OpCall& c) {
  const Tensor &x = c.tensor(0), &y = c.output(0);
  if (y.numel() == 0) return;
  std::vector<std::int64_t> offsets;
  MeanArgs a;
  a.rows = c.dim("L");
  a.columns = c.dim("D");
  a.count = y.numel() / a.columns;
  a.x = rows_view(&x, offsets);
  a.parts = std::max<std::int64_t>(1, (a.rows + kMeanRows - 1) / kMeanRows);
  a.y = y.data;
  const Context::Workspace sums =
      c.context.workspace(static_cast<std::size_t>(a.count * a.parts * a.columns) * sizeof(float));
  a.sums = reinterpret_cast<float*>(sums.get());
  MAMBASDK_PICK(mean_rows)(a, c.context.parallel());
}

}  // namespace
}  // namespace tokens

void register_tokens(Registry& registry) {
  using namespace tokens;
  registry.define({
      .signature = "unfold2d(x: T[B,C,H,W], kernel_h: int, kernel_w: int, stride_h: int, stride_w: int, "
                   "padding_h: int = 0, padding_w: int = 0) "
                   "-> (y: T[B,(H+2*padding_h-kernel_h)//stride_h+1,(W+2*padding_w-kernel_w)//stride_w+1,"
                   "C*kernel_h*kernel_w])",
      .doc = "The window that each output position of a convolution sees: y[b, i, j] holds x[b, c, i stride_h + u - "
             "padding_h, j stride_w + v - padding_w] for all c, u, v, in that order, and 0 outside of the image. With "
             "`linear` and a convolution's weights as (O, C kernel_h kernel_w) it is that convolution, channel-last: a "
             "patch embedding of any stride.",
      .check = check_unfold,
      .reference = reference_unfold,
      .cpu = vector_unfold,
  });
  registry.define({
      .signature = "concat_rows(x: T[*,L,D], y: T[*,M,D]) -> (out: T[*,L+M,D])",
      .doc = "The rows of x, then those of y.",
      .reference = concat_rows,
      .cpu = concat_rows,
  });
  registry.define({
      .signature = "mean_rows(x: T[*,L,D]) -> (y: T[*,D])",
      .doc = "The mean over L, accumulated in float32; 0 where there are no rows.",
      .reference = reference_mean,
      .cpu = vector_mean,
  });
}

}  // namespace mambasdk
