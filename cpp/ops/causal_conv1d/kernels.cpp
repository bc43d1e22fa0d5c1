// From a Call to the argument structs of the vector kernels, and the state after the last step.
#include <algorithm>
#include <cstring>

#include "core/element.hpp"
#include "core/extent.hpp"
#include "ops/causal_conv1d/call.hpp"
#include "ops/causal_conv1d/causal_conv1d.hpp"
#include "ops/causal_conv1d/reference.hpp"

namespace mambasdk::causal_conv1d {
namespace {

// (batch, time, D); the update's tensors have no time.
StridedView view_of(const Tensor& t) {
  return t.ndim == 2 ? with_dims(strided_view(t), {0, -1, 1}) : strided_view(t);
}
StridedView view_of(const Tensor* t) {
  return t != nullptr ? view_of(*t) : StridedView{};
}

std::int64_t tiles_of(std::int64_t steps) {
  return std::max<std::int64_t>(1, (steps + kTileRows - 1) / kTileRows);
}

// Short sequences are grouped, so that a work item has about kTileRows steps whatever their length.
Tiling tiling_of(const Call& call, std::vector<Tile>& packed) {
  Tiling tiling;
  tiling.length = call.length;
  tiling.steps = call.batch * call.length;
  if (call.cu_seqlens == nullptr && call.runs == nullptr) {
    tiling.tiles_per_sequence = tiles_of(call.length);
    tiling.tiles = call.batch * tiling.tiles_per_sequence;
  } else {
    for (std::int64_t s = 0; s < call.sequences(); ++s) {
      const Span span = sequence_span(call, s);
      for (std::int64_t i = 0; i < tiles_of(span.last - span.first); ++i) {
        const std::int64_t begin = span.first + i * kTileRows;
        const std::int64_t end = std::min(begin + kTileRows, span.last);
        packed.push_back({span.batch, span.initial, span.final, span.first, span.last, begin, end});
      }
    }
    tiling.packed = packed.data();
    tiling.tiles = static_cast<std::int64_t>(packed.size());
  }
  const std::int64_t steps_per_tile = std::max<std::int64_t>(1, tiling.steps / std::max<std::int64_t>(1, tiling.tiles));
  tiling.tiles_per_group = std::max<std::int64_t>(1, kTileRows / steps_per_tile);
  return tiling;
}

Args args_of(const Call& call, const Tiling& tiling, float* table) {
  Args a;
  a.tiling = tiling;
  a.channels = call.channels;
  a.width = call.width;
  a.silu = call.silu;
  a.type = call.x->dtype;
  a.weight_type = call.weight->dtype;
  a.x = view_of(call.x);
  a.weight = call.weight->data;
  a.weight_stride[0] = call.weight->stride(0);
  a.weight_stride[1] = call.weight->stride(1);
  if (call.bias != nullptr) {
    a.bias = call.bias->data;
    a.bias_stride = call.bias->stride(0);
  }
  a.initial_state = view_of(call.initial_state);
  a.residual = view_of(call.residual);
  a.table = table;
  return a;
}

Extent table_bytes(const Call& call) {
  return Extent(call.width + 1) * Extent(call.channels).rounded_up(kBlockChannels) * sizeof(float);
}

// The kernels read a residual with channel stride 1.
struct Packed {
  Context::Workspace memory{nullptr, {}};
  Tensor tensor;
};
Packed packed_residual(const Context& context, const Call& call) {
  Packed out;
  if (call.residual == nullptr || call.residual->stride(2) == 1) return out;
  const Tensor& from = *call.residual;
  const std::int64_t shape[] = {call.batch, call.length, call.channels};
  out.memory = context.workspace((Extent(call.batch) * call.length * call.channels * (from.dtype.bits / 8)).bytes());
  out.tensor = Tensor::contiguous(out.memory.get(), from.dtype, shape, 3);
  std::int64_t at = 0;
  for (std::int64_t b = 0; b < call.batch; ++b)
    for (std::int64_t t = 0; t < call.length; ++t)
      for (std::int64_t d = 0; d < call.channels; ++d)
        store_element(
            out.tensor.data, from.dtype, at++,
            load_element(from.data, from.dtype, b * from.stride(0) + t * from.stride(1) + d * from.stride(2)));
  return out;
}

}  // namespace

// Rows are moved in ascending order, so final_state may be the memory of initial_state.
void copy_final_state(const Context& context, const Call& call, const Tensor& final_state) {
  const std::int64_t rows = call.width - 1;
  const std::int64_t size = final_state.dtype.bits / 8;
  const auto copy_row = [&](std::byte* to, const Tensor& from, std::int64_t offset) {
    const auto* source = from.ptr<const std::byte>() + offset * size;
    const std::int64_t stride = from.stride(-1);
    if (stride == 1) {
      std::memmove(to, source, static_cast<std::size_t>(call.channels * size));
      return;
    }
    for (std::int64_t d = 0; d < call.channels; ++d) {
      std::memmove(to + d * size, source + d * stride * size, static_cast<std::size_t>(size));
    }
  };
  const std::int64_t grain = std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, rows * call.channels));
  context.parallel()(call.sequences(), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = begin; s < end; ++s) {
      const Span span = sequence_span(call, s);
      if (span.final < 0) continue;
      for (std::int64_t j = 0; j < rows; ++j) {
        std::byte* to = final_state.ptr<std::byte>() + (span.final * final_state.stride(0) + j * call.channels) * size;
        const std::int64_t t = span.last - rows + j;
        if (t >= span.first) {
          const Tensor& x = *call.x;
          copy_row(to, x, x.ndim == 3 ? span.batch * x.stride(0) + t * x.stride(1) : span.batch * x.stride(0));
        } else if (call.initial_state != nullptr && span.initial >= 0) {
          const Tensor& state = *call.initial_state;
          copy_row(to, state, span.initial * state.stride(0) + (t - span.first + rows) * state.stride(1));
        } else {
          std::memset(to, 0, static_cast<std::size_t>(call.channels * size));
        }
      }
    }
  });
}

void vector_forward(const Context& context, const Call& given, const Tensor& y) {
  if (given.width > kMaxWidth) return reference_forward(given, y);
  Call call = given;
  const Packed residual = packed_residual(context, call);
  if (residual.memory != nullptr) call.residual = &residual.tensor;
  clear_padding(call, y);
  std::vector<Tile> packed;
  const Tiling tiling = tiling_of(call, packed);
  const Context::Workspace table = context.workspace(table_bytes(call).bytes());
  Args args = args_of(call, tiling, reinterpret_cast<float*>(table.get()));
  args.y = view_of(y);
  MAMBASDK_PICK(causal_conv1d_forward)(args, context.parallel());
}

void vector_backward(const Context& context, const Call& call, const Tensor& grad_y, const Tensor* grad_final_state,
                     const Tensor& grad_x, const Tensor& grad_weight, const Tensor& grad_bias,
                     const Tensor& grad_initial_state) {
  if (call.width > kMaxWidth) {
    return reference_backward(call, grad_y, grad_final_state, grad_x, grad_weight, grad_bias, grad_initial_state);
  }
  clear_padding(call, grad_x);
  std::vector<Tile> packed;
  const Tiling tiling = tiling_of(call, packed);
  const Context::Workspace table = context.workspace(table_bytes(call).bytes());
  const Context::Workspace partial = context.workspace((table_bytes(call) * tiling.groups()).bytes());
  BackwardArgs args;
  args.forward = args_of(call, tiling, reinterpret_cast<float*>(table.get()));
  args.grad_y = view_of(grad_y);
  args.grad_final_state = view_of(grad_final_state);
  args.grad_x = view_of(grad_x);
  args.grad_weight = grad_weight.data;
  args.grad_bias = grad_bias.data;
  args.grad_initial_state = view_of(grad_initial_state);
  args.partial = reinterpret_cast<float*>(partial.get());
  MAMBASDK_PICK(causal_conv1d_backward)(args, context.parallel());
}

}  // namespace mambasdk::causal_conv1d
