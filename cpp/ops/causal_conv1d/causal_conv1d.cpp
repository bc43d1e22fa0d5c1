#include "ops/causal_conv1d/causal_conv1d.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/element.hpp"
#include "core/registry.hpp"
#include "ops/causal_conv1d/reference.hpp"
#include "ops/mirror.hpp"

namespace mambasdk {
namespace causal_conv1d {
namespace {

// ---- from the four signatures to one Call ----

Call forward_call(const OpCall& c) {  // x, weight, bias, initial_state, cu_seqlens, silu, return_final_state
  return {c.dim("B"),   c.dim("L"),   c.dim("D"),   c.dim("S"),    static_cast<int>(c.dim("K")),
          c.flag(5),    &c.tensor(0), &c.tensor(1), c.optional(2), c.optional(3),
          c.optional(4)};
}

Call backward_call(const OpCall& c) {  // grad_y, grad_final_state, then as above
  return {c.dim("B"),   c.dim("L"),   c.dim("D"),   c.dim("S"),    static_cast<int>(c.dim("K")),
          c.flag(7),    &c.tensor(2), &c.tensor(3), c.optional(4), c.optional(5),
          c.optional(6)};
}

Call update_call(const OpCall& c) {  // state, x, weight, bias, silu
  return {c.dim("B"),
          1,
          c.dim("D"),
          c.dim("B"),
          static_cast<int>(c.dim("K")),
          c.flag(4),
          &c.tensor(1),
          &c.tensor(2),
          c.optional(3),
          &c.tensor(0),
          nullptr};
}

Call update_backward_call(const OpCall& c) {  // grad_y, grad_new_state, then as above
  return {c.dim("B"),
          1,
          c.dim("D"),
          c.dim("B"),
          static_cast<int>(c.dim("K")),
          c.flag(6),
          &c.tensor(3),
          &c.tensor(4),
          c.optional(5),
          &c.tensor(2),
          nullptr};
}

// What the kernels run on: the call as given or, for a reversed one, its mirrored views, so that their first step is
// the last position. Packed sequences then come in the opposite order, and so do their states.
class Views {
 public:
  Views(const Call& given, bool reverse) : call_(given), reverse_(reverse) {
    if (!reverse) return;
    x_ = in_time(*call_.x);
    call_.x = &x_;
    if (call_.cu_seqlens != nullptr) {
      offsets_ = mirrored_offsets(*call_.cu_seqlens, storage_);
      call_.cu_seqlens = &offsets_;
    }
    if (call_.initial_state != nullptr) {
      initial_state_ = of_sequences(*call_.initial_state);
      call_.initial_state = &initial_state_;
    }
  }
  Views(const Views&) = delete;
  Views& operator=(const Views&) = delete;

  [[nodiscard]] const Call& call() const { return call_; }
  [[nodiscard]] Tensor in_time(const Tensor& t) const { return reverse_ ? t.mirrored(1) : t; }  // (B, L, D)
  [[nodiscard]] Tensor of_sequences(const Tensor& t) const {                                    // (S, K-1, D)
    return reverse_ && call_.cu_seqlens != nullptr ? t.mirrored(0) : t;
  }

 private:
  Call call_;
  bool reverse_;
  Tensor x_, initial_state_, offsets_;
  std::vector<std::int32_t> storage_;
};

// ---- checks ----

void check_width(const OpCall& c) {
  const std::int64_t width = c.dim("K");
  if (width < kMinWidth || width > kMaxWidth) {
    fail(ErrorCode::invalid_argument, c.signature.name, ": weight has ", width, " taps, expected ", kMinWidth, " to ",
         kMaxWidth);
  }
}

void check_cu_seqlens(const OpCall& c, const Tensor* cu_seqlens) {
  if (cu_seqlens == nullptr || cu_seqlens->data == nullptr || cu_seqlens->device != Device::cpu) return;
  const std::string& name = c.signature.name;
  const std::int64_t batch = c.dim("B"), length = c.dim("L"), sequences = c.dim("S");
  if (batch != 1) {
    fail(ErrorCode::invalid_argument, name, ": x has batch ", batch,
         ", expected 1 with cu_seqlens; pack the sequences along the length");
  }
  const auto* offsets = cu_seqlens->ptr<const std::int32_t>();
  const auto offset = [&](std::int64_t i) { return std::int64_t{offsets[i * cu_seqlens->stride(0)]}; };
  if (offset(0) != 0) fail(ErrorCode::invalid_argument, name, ": cu_seqlens[0] is ", offset(0), ", expected 0");
  for (std::int64_t i = 0; i < sequences; ++i) {
    if (offset(i + 1) < offset(i)) {
      fail(ErrorCode::invalid_argument, name, ": cu_seqlens[", i + 1, "] is ", offset(i + 1), ", expected at least ",
           offset(i), " as the one before it");
    }
  }
  if (offset(sequences) != length) {
    fail(ErrorCode::invalid_argument, name, ": cu_seqlens ends with ", offset(sequences), ", expected ", length,
         ", the length of x");
  }
}

void check_forward(const OpCall& c) {
  check_width(c);
  check_cu_seqlens(c, c.optional(4));
}

void check_backward(const OpCall& c) {
  check_width(c);
  check_cu_seqlens(c, c.optional(6));
}

// ---- the state after the last step: a copy, the same for every kernel ----

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
  context.parallel()(call.sequences, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = begin; s < end; ++s) {
      const Span span = sequence_span(call, s);
      for (std::int64_t j = 0; j < rows; ++j) {
        std::byte* to = final_state.ptr<std::byte>() + (s * final_state.stride(0) + j * call.channels) * size;
        const std::int64_t t = span.last - rows + j;
        if (t >= span.first) {
          const Tensor& x = *call.x;
          copy_row(to, x, x.ndim == 3 ? span.batch * x.stride(0) + t * x.stride(1) : span.batch * x.stride(0));
        } else if (call.initial_state != nullptr) {
          const Tensor& state = *call.initial_state;
          copy_row(to, state, s * state.stride(0) + (t - span.first + rows) * state.stride(1));
        } else {
          std::memset(to, 0, static_cast<std::size_t>(call.channels * size));
        }
      }
    }
  });
}

// ---- the vector kernels ----

Array array_of(const Tensor* t) {
  if (t == nullptr || t->data == nullptr) return {};
  if (t->ndim == 2) return {t->data, {t->stride(0), 0, t->stride(1)}};
  return {t->data, {t->stride(0), t->stride(1), t->stride(2)}};
}

std::int64_t tiles_of(std::int64_t steps) {
  return std::max<std::int64_t>(1, (steps + kTileRows - 1) / kTileRows);
}

// Short sequences are grouped, so that a work item has about kTileRows steps whatever their length.
Tiling tiling_of(const Call& call, std::vector<Tile>& packed) {
  Tiling tiling;
  tiling.length = call.length;
  tiling.steps = call.batch * call.length;
  if (call.cu_seqlens == nullptr) {
    tiling.tiles_per_sequence = tiles_of(call.length);
    tiling.tiles = call.batch * tiling.tiles_per_sequence;
  } else {
    for (std::int64_t s = 0; s < call.sequences; ++s) {
      const Span span = sequence_span(call, s);
      for (std::int64_t i = 0; i < tiles_of(span.last - span.first); ++i) {
        const std::int64_t begin = span.first + i * kTileRows;
        packed.push_back({0, s, span.first, span.last, begin, std::min(begin + kTileRows, span.last)});
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
  a.x = array_of(call.x);
  a.weight = call.weight->data;
  a.weight_stride[0] = call.weight->stride(0);
  a.weight_stride[1] = call.weight->stride(1);
  if (call.bias != nullptr) {
    a.bias = call.bias->data;
    a.bias_stride = call.bias->stride(0);
  }
  a.initial_state = array_of(call.initial_state);
  a.table = table;
  return a;
}

std::size_t table_bytes(const Call& call) {
  return static_cast<std::size_t>((call.width + 1) * padded_channels(call.channels)) * sizeof(float);
}

void vector_forward(const Context& context, const Call& call, const Tensor& y) {
  std::vector<Tile> packed;
  const Tiling tiling = tiling_of(call, packed);
  const Context::Workspace table = context.workspace(table_bytes(call));
  Args args = args_of(call, tiling, reinterpret_cast<float*>(table.get()));
  args.y = array_of(&y);
  MAMBASDK_PICK(causal_conv1d_forward)(args, context.parallel());
}

void vector_backward(const Context& context, const Call& call, const Tensor& grad_y, const Tensor* grad_final_state,
                     const Tensor& grad_x, const Tensor& grad_weight, const Tensor& grad_bias,
                     const Tensor& grad_initial_state) {
  std::vector<Tile> packed;
  const Tiling tiling = tiling_of(call, packed);
  const Context::Workspace table = context.workspace(table_bytes(call));
  const Context::Workspace partial = context.workspace(table_bytes(call) * static_cast<std::size_t>(tiling.groups()));
  BackwardArgs args;
  args.forward = args_of(call, tiling, reinterpret_cast<float*>(table.get()));
  args.grad_y = array_of(&grad_y);
  args.grad_final_state = array_of(grad_final_state);
  args.grad_x = array_of(&grad_x);
  args.grad_weight = grad_weight.data;
  args.grad_bias = grad_bias.data;
  args.grad_initial_state = array_of(&grad_initial_state);
  args.partial = reinterpret_cast<float*>(partial.get());
  MAMBASDK_PICK(causal_conv1d_backward)(args, context.parallel());
}

// ---- kernels of the four operations ----

template <bool kReference>
void run_forward(const OpCall& c) {
  const Views views(forward_call(c), c.flag(7));
  const Tensor y = views.in_time(c.output(0));
  if constexpr (kReference) {
    reference_forward(views.call(), y);
  } else {
    vector_forward(c.context, views.call(), y);
  }
  if (c.flag(6)) copy_final_state(c.context, views.call(), views.of_sequences(c.output(1)));
}

template <bool kReference>
void run_backward(const OpCall& c) {
  const Views views(backward_call(c), c.flag(8));
  const Tensor grad_y = views.in_time(c.tensor(0)), grad_x = views.in_time(c.output(0));
  const Tensor grad_final = c.has(1) ? views.of_sequences(c.tensor(1)) : Tensor{};
  const Tensor* grad_final_state = c.has(1) ? &grad_final : nullptr;
  const Tensor grad_initial = c.has(5) ? views.of_sequences(c.output(3)) : c.output(3);
  if constexpr (kReference) {
    reference_backward(views.call(), grad_y, grad_final_state, grad_x, c.output(1), c.output(2), grad_initial);
  } else {
    vector_backward(c.context, views.call(), grad_y, grad_final_state, grad_x, c.output(1), c.output(2), grad_initial);
  }
}

template <bool kReference>
void run_update(const OpCall& c) {
  const Call call = update_call(c);
  if constexpr (kReference) {
    reference_forward(call, c.output(0));
  } else {
    vector_forward(c.context, call, c.output(0));
  }
  copy_final_state(c.context, call, c.output(1));
}

template <bool kReference>
void run_update_backward(const OpCall& c) {  // outputs: grad_state, grad_x, grad_weight, grad_bias
  const Call call = update_backward_call(c);
  if constexpr (kReference) {
    reference_backward(call, c.tensor(0), c.optional(1), c.output(1), c.output(2), c.output(3), c.output(0));
  } else {
    vector_backward(c.context, call, c.tensor(0), c.optional(1), c.output(1), c.output(2), c.output(3), c.output(0));
  }
}

}  // namespace
}  // namespace causal_conv1d

void register_causal_conv1d(Registry& registry) {
  using namespace causal_conv1d;
  registry.define({
      .signature = "causal_conv1d(x: T[B,L,D], weight: W[D,K], bias: W[D]?, initial_state: T[S,K-1,D]?, "
                   "cu_seqlens: i32[S+1]?, silu: bool = false, return_final_state: bool = false, "
                   "reverse: bool = false) "
                   "-> (y: T[B,L,D], final_state: T[S,K-1,D] if return_final_state) where S = B if not cu_seqlens",
      .doc = "Depthwise causal convolution (cross-correlation), width K from 2 to 8: u_t = bias + sum_k weight[:, k] "
             "x_{t-K+1+k}, then y = u, or u * sigmoid(u) with `silu`. Inputs before the first step come from "
             "`initial_state` (the last K-1 inputs, oldest first), else they are zero. With `cu_seqlens`, 0 = c_0 <= "
             "... <= c_S = L, the batch is 1 and steps [c_s, c_{s+1}) are sequence s. `final_state` holds the last K-1 "
             "inputs and may be the memory of `initial_state`. With `reverse` the steps run from the last position (of "
             "each "
             "sequence) to the first: u_t = bias + sum_k weight[:, k] x_{t+K-1-k}, and both states stand at the other "
             "end, still oldest first in the order of the steps. Mamba (arXiv 2312.00752), the mixer's convolution.",
      .check = check_forward,
      .reference = run_forward<true>,
      .cpu = run_forward<false>,
  });
  registry.define({
      .signature =
          "causal_conv1d_backward(grad_y: T[B,L,D], grad_final_state: T[S,K-1,D]?, x: T[B,L,D], "
          "weight: W[D,K], bias: W[D]?, initial_state: T[S,K-1,D]?, cu_seqlens: i32[S+1]?, silu: bool = false, "
          "reverse: bool = false) "
          "-> (grad_x: T[B,L,D], grad_weight: W[D,K], grad_bias: W[D] if bias, "
          "grad_initial_state: T[S,K-1,D] if initial_state) where S = B if not cu_seqlens",
      .doc = "Derivative of causal_conv1d; the values before SiLU are computed again from x.",
      .check = check_backward,
      .reference = run_backward<true>,
      .cpu = run_backward<false>,
  });
  registry.define({
      .signature =
          "causal_conv1d_update(state: T[B,K-1,D], x: T[B,D], weight: W[D,K], bias: W[D]?, silu: bool = false) "
          "-> (y: T[B,D], new_state: T[B,K-1,D])",
      .doc = "One step of causal_conv1d: y from the last K-1 inputs in `state` (oldest first) and x; `new_state` is "
             "`state` moved on by x and may be the memory of `state`.",
      .check = check_width,
      .reference = run_update<true>,
      .cpu = run_update<false>,
  });
  registry.define({
      .signature = "causal_conv1d_update_backward(grad_y: T[B,D], grad_new_state: T[B,K-1,D]?, state: T[B,K-1,D], "
                   "x: T[B,D], weight: W[D,K], bias: W[D]?, silu: bool = false) "
                   "-> (grad_state: T[B,K-1,D], grad_x: T[B,D], grad_weight: W[D,K], grad_bias: W[D] if bias)",
      .doc = "Derivative of causal_conv1d_update.",
      .check = check_width,
      .reference = run_update_backward<true>,
      .cpu = run_update_backward<false>,
  });
}

}  // namespace mambasdk
