// Definitions of causal_conv1d_update and its derivative: one step, from states of any length that may stand in a pool.
#include <numeric>
#include <vector>

#include "core/element.hpp"
#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/causal_conv1d/call.hpp"
#include "ops/causal_conv1d/reference.hpp"
#include "ops/state_slots.hpp"

namespace mambasdk::causal_conv1d {
namespace {

constexpr Declaration kUpdate =
    "causal_conv1d_update(state: V[S,M,D], x: T[B,D], weight: W[D,K], bias: W[D]?, silu: bool = false, "
    "state_indices: i32[B]?, cache_seqlens: i32[B]?, pad_slot_id: int = -1) "
    "-> (y: T[B,D], new_state: V[S,M,D]) where S = B if not state_indices";
constexpr Declaration kBackward = kUpdate.derivative();
using Inputs = InputsOf<kUpdate>;

void check(const Inputs& c) {
  check_width(c.operation(), c.dim<"K">());
  const std::int64_t held = c.dim<"M">(), history = c.dim<"K">() - 1;
  if (held < history) {
    fail(ErrorCode::invalid_argument, c.operation(), ": state holds ", held, " inputs, expected at least ", history,
         ": K is ", history + 1, " in weight");
  }
  const std::int64_t padding = c.integer<"pad_slot_id">();
  check_state_indices(c.named<"state_indices">(), padding, c.dim<"S">());
  const Tensor* lengths = c.optional<"cache_seqlens">();
  if (lengths == nullptr || lengths->data == nullptr || lengths->device != Device::cpu) return;
  const Tensor* indices = c.optional<"state_indices">();
  for (std::int64_t b = 0; b < lengths->size(0); ++b) {
    const std::int32_t length = lengths->ptr<const std::int32_t>()[b * lengths->stride(0)];
    if (indices != nullptr && indices->ptr<const std::int32_t>()[b * indices->stride(0)] == padding) continue;
    if (length < 0) {
      fail(ErrorCode::invalid_argument, c.operation(), ": cache_seqlens[", b, "] is ", length, ", expected at least 0");
    }
  }
}

// ---- states that are the last K-1 inputs of every row, in the dtype of x: one step of the whole-sequence kernels ----

bool is_plain(const Inputs& c) {
  return !c.has<"state_indices">() && !c.has<"cache_seqlens">() && c.dim<"M">() == c.dim<"K">() - 1 &&
         c.tensor<"state">().dtype == c.tensor<"x">().dtype;
}

Call call_of(const Inputs& c, std::int64_t rows, const Tensor* x, const Tensor* initial_state) {
  return {.batch = rows,
          .length = 1,
          .channels = c.dim<"D">(),
          .states = rows,
          .width = static_cast<int>(c.dim<"K">()),
          .silu = c.flag<"silu">(),
          .x = x,
          .weight = c.optional<"weight">(),
          .bias = c.optional<"bias">(),
          .initial_state = initial_state,
          .cu_seqlens = nullptr};
}

template <bool kReference>
void forward(const Context& context, const Call& call, const Tensor& y) {
  if constexpr (kReference) {
    reference_forward(call, y);
  } else {
    vector_forward(context, call, y);
  }
}

template <bool kReference>
void backward(const Context& context, const Call& call, const Tensor& grad_y, const Tensor* grad_final_state,
              const Tensor& grad_x, const Tensor& grad_weight, const Tensor& grad_bias,
              const Tensor& grad_initial_state) {
  if constexpr (kReference) {
    reference_backward(call, grad_y, grad_final_state, grad_x, grad_weight, grad_bias, grad_initial_state);
  } else {
    vector_backward(context, call, grad_y, grad_final_state, grad_x, grad_weight, grad_bias, grad_initial_state);
  }
}

// ---- any states: the window of K-1 inputs of each row is gathered, in the dtype that the step is computed in ----

// Where the rows of a call have their states, and where in a state of M inputs the window and the next input stand.
class Places {
 public:
  Places(const Tensor* state_indices, const Tensor* cache_seqlens, std::int64_t padding, std::int64_t batch,
         std::int64_t held, std::int64_t history)
      : cache_seqlens_(cache_seqlens), held_(held), history_(history) {
    if (state_indices != nullptr) {
      slots_ = state_slots(*state_indices, padding);
    } else {
      slots_.rows.resize(static_cast<std::size_t>(batch));
      std::iota(slots_.rows.begin(), slots_.rows.end(), std::int64_t{0});
      slots_.slots = slots_.rows;
    }
  }

  [[nodiscard]] const std::vector<std::int64_t>& rows() const { return slots_.rows; }
  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(slots_.rows.size()); }
  [[nodiscard]] std::int64_t slot(std::int64_t i) const { return slots_.slots[static_cast<std::size_t>(i)]; }
  [[nodiscard]] bool is_ring() const { return cache_seqlens_ != nullptr; }
  // Of input k of the window, the oldest first.
  [[nodiscard]] std::int64_t window(std::int64_t i, std::int64_t k) const {
    if (!is_ring()) return held_ - history_ + k;
    return (length(i) % held_ + held_ - history_ + k) % held_;
  }
  // Of the new input, where there is a state at all.
  [[nodiscard]] std::int64_t next(std::int64_t i) const { return is_ring() ? length(i) % held_ : held_ - 1; }

 private:
  [[nodiscard]] std::int64_t length(std::int64_t i) const {
    const std::int64_t row = slots_.rows[static_cast<std::size_t>(i)];
    return cache_seqlens_->ptr<const std::int32_t>()[row * cache_seqlens_->stride(0)];
  }

  StateSlots slots_;
  const Tensor* cache_seqlens_;
  std::int64_t held_, history_;
};

Places places_of(const Inputs& c) {
  return {c.optional<"state_indices">(),
          c.optional<"cache_seqlens">(),
          c.integer<"pad_slot_id">(),
          c.dim<"B">(),
          c.dim<"M">(),
          c.dim<"K">() - 1};
}

double get(const Tensor& t, std::int64_t i, std::int64_t j, std::int64_t d) {
  return load_element(t.data, t.dtype, i * t.stride(0) + j * t.stride(1) + d * t.stride(2));
}
void put(const Tensor& t, std::int64_t i, std::int64_t j, std::int64_t d, double value) {
  store_element(t.data, t.dtype, i * t.stride(0) + j * t.stride(1) + d * t.stride(2), value);
}

RowCopy workspace(const Context& context, DType type, std::int64_t rows, std::int64_t history, std::int64_t channels) {
  const std::int64_t shape[] = {rows, history, channels};
  RowCopy out{context.workspace((Extent(rows) * history * channels * (type.bits / 8)).bytes()), {}};
  out.tensor = Tensor::contiguous(out.memory.get(), type, shape, 3);
  return out;
}

// (count, K-1, D)
RowCopy windows(const Inputs& c, const Places& places, DType type) {
  const Tensor& state = c.tensor<"state">();
  const std::int64_t history = c.dim<"K">() - 1, channels = c.dim<"D">();
  RowCopy out = workspace(c.context(), type, places.count(), history, channels);
  const std::int64_t grain = 1 + 16384 / (history * channels + 1);
  c.context().parallel()(places.count(), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t k = 0; k < history; ++k)
        for (std::int64_t d = 0, j = places.window(i, k); d < channels; ++d)
          put(out.tensor, i, k, d, get(state, places.slot(i), j, d));
  });
  return out;
}

template <bool kReference>
void run_forward(const CallOf<kUpdate>& c) {
  const Tensor &state = c.tensor<"state">(), &x = c.tensor<"x">();
  const Tensor &y = c.output<"y">(), &new_state = c.output<"new_state">();
  if (is_plain(c)) {
    const Call call = call_of(c, c.dim<"B">(), &x, &state);
    forward<kReference>(c.context(), call, y);
    return copy_final_state(c.context(), call, new_state);
  }
  const DType type = kReference ? dtype::f64 : dtype::f32;
  const Places places = places_of(c);
  const std::int64_t held = c.dim<"M">(), channels = c.dim<"D">();
  {
    const RowCopy inputs = take_rows(c.context(), x, places.rows(), type);
    const RowCopy window = windows(c, places, type);
    const RowCopy outputs = empty_rows(c.context(), y, places.count(), type);
    forward<kReference>(c.context(), call_of(c, places.count(), &inputs.tensor, &window.tensor), outputs.tensor);
    if (places.count() != c.dim<"B">()) clear_rows(y);
    put_rows(y, places.rows(), outputs.tensor);
  }
  copy_states(c.context(), new_state, state);
  if (held == 0) return;
  const std::int64_t grain = 1 + 16384 / (held * channels + 1);
  c.context().parallel()(places.count(), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t slot = places.slot(i), row = places.rows()[static_cast<std::size_t>(i)];
      for (std::int64_t d = 0; d < channels; ++d) {
        if (!places.is_ring())
          for (std::int64_t j = 0; j + 1 < held; ++j) put(new_state, slot, j, d, get(new_state, slot, j + 1, d));
        put(new_state, slot, places.next(i), d, load_element(x.data, x.dtype, row * x.stride(0) + d * x.stride(1)));
      }
    }
  });
}

template <bool kReference>
void run_backward(const CallOf<kBackward>& c) {
  const Inputs update = c.inputs_of<kUpdate>();
  const Tensor &grad_y = c.tensor<"grad_y">(), &state = c.tensor<"state">(), &x = c.tensor<"x">();
  const Tensor &grad_state = c.output<"grad_state">(), &grad_x = c.output<"grad_x">();
  const Tensor &grad_weight = c.output<"grad_weight">(), &grad_bias = c.output<"grad_bias">();
  const Tensor* grad_new_state = c.optional<"grad_new_state">();
  if (is_plain(update)) {
    const Call call = call_of(update, c.dim<"B">(), &x, &state);
    return backward<kReference>(c.context(), call, grad_y, grad_new_state, grad_x, grad_weight, grad_bias, grad_state);
  }
  const DType type = kReference ? dtype::f64 : dtype::f32;
  const Places places = places_of(update);
  const std::int64_t held = c.dim<"M">(), channels = c.dim<"D">(), history = c.dim<"K">() - 1;
  const RowCopy inputs = take_rows(c.context(), x, places.rows(), type);
  const RowCopy grads = take_rows(c.context(), grad_y, places.rows(), type);
  const RowCopy window = windows(update, places, type);
  const RowCopy grad_inputs = empty_rows(c.context(), x, places.count(), type);
  const RowCopy grad_window = workspace(c.context(), type, places.count(), history, channels);
  const Call call = call_of(update, places.count(), &inputs.tensor, &window.tensor);
  backward<kReference>(c.context(), call, grads.tensor, nullptr, grad_inputs.tensor, grad_weight, grad_bias,
                       grad_window.tensor);
  if (places.count() != c.dim<"B">()) clear_rows(grad_x);
  if (grad_new_state != nullptr) {
    copy_states(c.context(), grad_state, *grad_new_state);
  } else {
    clear_rows(grad_state);
  }
  std::vector<double> moved(static_cast<std::size_t>(held));  // the gradient of one channel of a state
  for (std::int64_t i = 0; i < places.count(); ++i) {
    const std::int64_t slot = places.slot(i), row = places.rows()[static_cast<std::size_t>(i)];
    for (std::int64_t d = 0; d < channels; ++d) {
      double grad = load_element(grad_inputs.tensor.data, type, i * channels + d);
      if (held > 0) {
        const auto next = static_cast<std::size_t>(places.next(i));
        for (std::int64_t j = 0; j < held; ++j) moved[static_cast<std::size_t>(j)] = get(grad_state, slot, j, d);
        grad += moved[next];
        if (places.is_ring()) {
          moved[next] = 0.0;
        } else {
          for (std::size_t j = next; j > 0; --j) moved[j] = moved[j - 1];
          moved[0] = 0.0;
        }
        for (std::int64_t k = 0; k < history; ++k) {
          moved[static_cast<std::size_t>(places.window(i, k))] += get(grad_window.tensor, i, k, d);
        }
        for (std::int64_t j = 0; j < held; ++j) put(grad_state, slot, j, d, moved[static_cast<std::size_t>(j)]);
      }
      store_element(grad_x.data, grad_x.dtype, row * channels + d, grad);
    }
  }
}

}  // namespace

void define_update(Registry& registry) {
  registry.define<kUpdate>({
      .doc =
          "One step of causal_conv1d: y from the last K-1 inputs in `state` (of M >= K-1, oldest first) and x; "
          "`new_state` is `state` moved on by x, rounded to V, and may be the memory of `state`. With "
          "`cache_seqlens`, the inputs that each row has seen, a state is a ring: x goes to place cache_seqlens % M, "
          "and the inputs before it stand in the places before. With `state_indices` the states stand in a pool of "
          "S slots: row b has the state in slot state_indices[b], each its own; a row with `pad_slot_id` has none, "
          "reads and writes nothing, and its y is 0.",
      .check = [](const CallOf<kUpdate>& c) { check(c); },
      .reference = run_forward<true>,
      .cpu = run_forward<false>,
  });
  registry.define<kBackward>({
      .doc = "Derivative of causal_conv1d_update.",
      .check = [](const CallOf<kBackward>& c) { check(c.inputs_of<kUpdate>()); },
      .reference = run_backward<true>,
      .cpu = run_backward<false>,
  });
}

}  // namespace mambasdk::causal_conv1d
