#include "ops/causal_conv1d/causal_conv1d.hpp"

#include <cstring>
#include <vector>

#include "core/registry.hpp"
#include "ops/causal_conv1d/call.hpp"
#include "ops/causal_conv1d/reference.hpp"
#include "ops/sequences.hpp"

namespace mambasdk {
namespace causal_conv1d {

void check_width(std::string_view operation, std::int64_t width) {
  if (width < 1) fail(ErrorCode::invalid_argument, operation, ": weight has ", width, " taps, expected at least 1");
  if (width > INT32_MAX) {
    fail(ErrorCode::invalid_argument, operation, ": weight has ", width, " taps, expected at most ", INT32_MAX);
  }
}

namespace {

constexpr Declaration kConv =
    "causal_conv1d(x: T[B,L,D], weight: W[D,K], bias: W[D]?, initial_state: T[S,K-1,D]?, "
    "cu_seqlens: i32[S+1]?, silu: bool = false, return_final_state: bool = false, "
    "reverse: bool = false, seq_idx: i32[B,L]?, residual: T[B,L,D]?) "
    "-> (y: T[B,L,D], final_state: T[S,K-1,D] if return_final_state) where S = B if not cu_seqlens";
constexpr Declaration kBackward = kConv.derivative();
using Inputs = InputsOf<kConv>;

Call call_of(const Inputs& c) {
  return {.batch = c.dim<"B">(),
          .length = c.dim<"L">(),
          .channels = c.dim<"D">(),
          .states = c.dim<"S">(),
          .width = static_cast<int>(c.dim<"K">()),
          .silu = c.flag<"silu">(),
          .x = c.optional<"x">(),
          .weight = c.optional<"weight">(),
          .bias = c.optional<"bias">(),
          .initial_state = c.optional<"initial_state">(),
          .cu_seqlens = c.optional<"cu_seqlens">()};
}

// What the kernels run on: the call as given or, for a reversed one, its mirrored views, so that their first step is
// the last position. Packed sequences then come in the opposite order, and so do their states.
class Views {
 public:
  Views(const Call& given, bool reverse, const Tensor* seq_idx) : call_(given), reverse_(reverse) {
    if (reverse) {
      x_ = in_time(*call_.x);
      call_.x = &x_;
      if (call_.residual != nullptr) {
        residual_ = in_time(*call_.residual);
        call_.residual = &residual_;
      }
      if (call_.cu_seqlens != nullptr) {
        offsets_ = mirrored_offsets(*call_.cu_seqlens, storage_);
        call_.cu_seqlens = &offsets_;
      }
      if (call_.initial_state != nullptr) {
        initial_state_ = of_sequences(*call_.initial_state);
        call_.initial_state = &initial_state_;
      }
    }
    if (seq_idx != nullptr) {
      runs_ = runs_of(in_time(*seq_idx));
      call_.runs = &runs_;
    }
  }
  Views(const Views&) = delete;
  Views& operator=(const Views&) = delete;

  [[nodiscard]] const Call& call() const { return call_; }
  [[nodiscard]] Tensor in_time(const Tensor& t) const { return reverse_ ? t.mirrored(1) : t; }  // (B, L, …)
  [[nodiscard]] Tensor of_sequences(const Tensor& t) const {                                    // (S, K-1, D)
    return reverse_ && call_.cu_seqlens != nullptr ? t.mirrored(0) : t;
  }

 private:
  Call call_;
  bool reverse_;
  Tensor x_, residual_, initial_state_, offsets_;
  std::vector<std::int32_t> storage_;
  Runs runs_;
};

// ---- checks ----

// Entries are sequences from 0 on, or -1 for padding.
void check_seq_idx(const NamedTensor& argument) {
  const Tensor* seq_idx = argument.tensor;
  if (seq_idx == nullptr || seq_idx->data == nullptr || seq_idx->device != Device::cpu) return;
  for (std::int64_t b = 0; b < seq_idx->size(0); ++b) {
    for (std::int64_t t = 0; t < seq_idx->size(1); ++t) {
      const std::int32_t id = seq_idx->ptr<const std::int32_t>()[b * seq_idx->stride(0) + t * seq_idx->stride(1)];
      if (id < -1) {
        fail(ErrorCode::invalid_argument, argument.operation, ": seq_idx[", b, ", ", t, "] is ", id,
             ", expected a sequence of at least 0, or -1 for padding");
      }
    }
  }
}

void check(const Inputs& c) {
  check_width(c.operation(), c.dim<"K">());
  check_cu_seqlens_or_seq_idx(c.named<"cu_seqlens">(), c.named<"seq_idx">(), c.dim<"B">(), c.dim<"L">());
  check_seq_idx(c.named<"seq_idx">());
}

// ---- kernels ----

template <bool kReference>
void run_forward(const CallOf<kConv>& c) {
  Call call = call_of(c);
  call.residual = c.optional<"residual">();
  const Views views(call, c.flag<"reverse">(), c.optional<"seq_idx">());
  const Tensor y = views.in_time(c.output<"y">());
  if constexpr (kReference) {
    reference_forward(views.call(), y);
  } else {
    vector_forward(c.context(), views.call(), y);
  }
  if (c.flag<"return_final_state">()) {
    copy_final_state(c.context(), views.call(), views.of_sequences(c.output<"final_state">()));
  }
}

// y = act(conv) + residual: its gradient is that of y, but in padding, where y is 0 whatever the residual.
void copy_residual_gradient(const Call& call, const Tensor& grad_y, const Tensor& grad_residual) {
  const std::int64_t size = grad_y.dtype.bits / 8;
  for (std::int64_t b = 0; b < call.batch; ++b)
    for (std::int64_t t = 0; t < call.length; ++t) {
      const auto* in = grad_y.ptr<const std::byte>() + (b * grad_y.stride(0) + t * grad_y.stride(1)) * size;
      auto* out = grad_residual.ptr<std::byte>() + (b * grad_residual.stride(0) + t * grad_residual.stride(1)) * size;
      const std::int64_t stride = grad_y.stride(2);
      const std::int64_t pieces = stride == 1 ? 1 : call.channels, bytes = stride == 1 ? call.channels * size : size;
      for (std::int64_t i = 0; i < pieces; ++i)
        std::memcpy(out + i * bytes, in + i * stride * size, static_cast<std::size_t>(bytes));
    }
  clear_padding(call, grad_residual);
}

template <bool kReference>
void run_backward(const CallOf<kBackward>& c) {
  const Views views(call_of(c.inputs_of<kConv>()), c.flag<"reverse">(), c.optional<"seq_idx">());
  const Tensor grad_y = views.in_time(c.tensor<"grad_y">()), grad_x = views.in_time(c.output<"grad_x">());
  const Tensor grad_final = c.has<"grad_final_state">() ? views.of_sequences(c.tensor<"grad_final_state">()) : Tensor{};
  const Tensor* grad_final_state = c.has<"grad_final_state">() ? &grad_final : nullptr;
  const Tensor &grad_weight = c.output<"grad_weight">(), &grad_bias = c.output<"grad_bias">();
  const Tensor& grad_state = c.output<"grad_initial_state">();
  const Tensor grad_initial = c.has<"initial_state">() ? views.of_sequences(grad_state) : grad_state;
  if constexpr (kReference) {
    reference_backward(views.call(), grad_y, grad_final_state, grad_x, grad_weight, grad_bias, grad_initial);
  } else {
    vector_backward(c.context(), views.call(), grad_y, grad_final_state, grad_x, grad_weight, grad_bias, grad_initial);
  }
  if (c.has<"residual">()) {
    copy_residual_gradient(views.call(), grad_y, views.in_time(c.output<"grad_residual">()));
  }
}

}  // namespace
}  // namespace causal_conv1d

void register_causal_conv1d(Registry& registry) {
  using namespace causal_conv1d;
  registry.define<kConv>({
      .doc = "Depthwise causal convolution (cross-correlation), any width K: u_t = bias + sum_k weight[:, k] "
             "x_{t-K+1+k}, then y = u, or u * sigmoid(u) with `silu`, "
             "plus `residual`. Inputs before the first step come from "
             "`initial_state` (the last K-1 inputs, oldest first), else they are zero. With `cu_seqlens`, 0 = c_0 <= "
             "... <= c_S = L, the batch is 1 and steps [c_s, c_{s+1}) are sequence s. With `seq_idx` "
             "a run of equal entries is a sequence, the first of a row starts from `initial_state` and the last leaves "
             "`final_state`; -1 is padding, which no output sees and whose y is 0. `final_state` holds the last K-1 "
             "inputs and may be the memory of `initial_state`. With `reverse` the steps run from the last position (of "
             "each "
             "sequence) to the first: u_t = bias + sum_k weight[:, k] x_{t+K-1-k}, and both states stand at the other "
             "end, still oldest first in the order of the steps. Mamba (arXiv 2312.00752), the mixer's convolution.",
      .check = [](const CallOf<kConv>& c) { check(c); },
      .reference = run_forward<true>,
      .cpu = run_forward<false>,
  });
  registry.define<kBackward>({
      .doc = "Derivative of causal_conv1d; the values before SiLU are computed again from x.",
      .check = [](const CallOf<kBackward>& c) { check(c.inputs_of<kConv>()); },
      .reference = run_backward<true>,
      .cpu = run_backward<false>,
  });
  define_update(registry);
}

}  // namespace mambasdk
