// Definitions of diagonal_scan and its derivative.
#include "ops/diagonal_scan/diagonal_scan.hpp"

#include <vector>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/diagonal_scan/reference.hpp"
#include "ops/sequences.hpp"

namespace mambasdk {
namespace diagonal_scan {
namespace {

constexpr Declaration kScan =
    "diagonal_scan(b: Z[B,L,D], a: Z[Ba,La,D], initial_state: Z[S,D]?, reverse: bool = false, "
    "return_final_state: bool = false, cu_seqlens: i32[S+1]?) "
    "-> (x: Z[B,L,D], final_state: Z[S,D] if return_final_state) where S = B if not cu_seqlens";
constexpr Declaration kBackward = kScan.derivative({.saved = "x", .after = "a", .unused = "b"});
using Inputs = InputsOf<kScan>;

// `batched` is an argument of shape (B, L, D).
void check(const Inputs& c, std::string_view batched) {
  const Tensor& a = c.tensor<"a">();
  const std::int64_t batch = c.dim<"B">(), length = c.dim<"L">();
  if ((a.size(0) != 1 && a.size(0) != batch) || (a.size(1) != 1 && a.size(1) != length)) {
    fail(ErrorCode::invalid_argument, c.operation(), ": a is ", a.shape_text(), ", expected (", batch, " or 1, ",
         length, " or 1, ", c.dim<"D">(), "): 1 where a is the same along the batch or along time");
  }
  check_cu_seqlens(c.named<"cu_seqlens">(), batched, batch, length, "the length");
}

// (S, D) as (batch, length, channel).
StridedView state_view(const Tensor& state) {
  return with_dims(strided_view(state), {0, -1, 1});
}

StridedView coefficients_view(const Tensor& a) {
  return with_dims(strided_view(a), {a.size(0) == 1 ? -1 : 0, a.size(1) == 1 ? -1 : 1, 2});
}

// The offsets with stride 1; none where the batch is not packed.
std::vector<std::int32_t> offsets_of(const Inputs& c) {
  std::vector<std::int32_t> out;
  const Tensor* cu_seqlens = c.optional<"cu_seqlens">();
  for (std::int64_t i = 0; cu_seqlens != nullptr && i < cu_seqlens->size(0); ++i)
    out.push_back(static_cast<std::int32_t>(sequence_offset(*cu_seqlens, i)));
  return out;
}

Sequences sequences_of(const Inputs& c, const std::vector<std::int32_t>& offsets) {
  return {c.dim<"S">(), c.dim<"L">(), offsets.empty() ? nullptr : offsets.data()};
}

void vector_forward(const CallOf<kScan>& c) {
  const std::vector<std::int32_t> offsets = offsets_of(c);
  const ForwardArgs call{.dtype = c.tensor<"b">().dtype,
                         .sequences = sequences_of(c, offsets),
                         .channels = c.dim<"D">(),
                         .reverse = c.flag<"reverse">(),
                         .b = strided_view(c.tensor<"b">()),
                         .a = coefficients_view(c.tensor<"a">()),
                         .initial_state = state_view(c.tensor_or_null<"initial_state">()),
                         .x = c.output<"x">().data,
                         .final_state = c.output<"final_state">().data};
  MAMBASDK_PICK(diagonal_scan)(call, c.context().parallel());
}

void vector_backward(const CallOf<kBackward>& c) {
  const Inputs inputs = c.inputs_of<kScan>();
  const Tensor &a = c.tensor<"a">(), &grad_x = c.tensor<"grad_x">();
  const std::vector<std::int32_t> offsets = offsets_of(inputs);
  const BackwardArgs call{.dtype = grad_x.dtype,
                          .sequences = sequences_of(inputs, offsets),
                          .channels = c.dim<"D">(),
                          .reverse = c.flag<"reverse">(),
                          .grad_x = strided_view(grad_x),
                          .grad_final_state = state_view(c.tensor_or_null<"grad_final_state">()),
                          .a = coefficients_view(a),
                          .x = strided_view(c.tensor<"x">()),
                          .initial_state = state_view(c.tensor_or_null<"initial_state">()),
                          .shared_batch = a.size(0) == 1 && c.dim<"B">() != 1,
                          .shared_length = a.size(1) == 1 && c.dim<"L">() != 1,
                          .grad_b = c.output<"grad_b">().data,
                          .grad_a = c.output<"grad_a">().data,
                          .grad_initial_state = c.output<"grad_initial_state">().data};
  const std::int64_t rows = call.shared_length ? c.dim<"S">() : call.shared_batch ? c.dim<"L">() : 0;
  const auto workspace = c.context().workspace((Extent(rows) * c.dim<"D">() * 2 * sizeof(float)).bytes());
  MAMBASDK_PICK(diagonal_scan_backward)(call, workspace.get(), c.context().parallel());
}

void reference(const CallOf<kScan>& c) {
  reference_forward(c.tensor<"b">(), c.tensor<"a">(), c.tensor_or_null<"initial_state">(), c.flag<"reverse">(),
                    offsets_of(c), c.output<"x">(), c.output<"final_state">());
}

void reference(const CallOf<kBackward>& c) {
  reference_backward(c.tensor<"grad_x">(), c.tensor_or_null<"grad_final_state">(), c.tensor<"a">(), c.tensor<"x">(),
                     c.tensor_or_null<"initial_state">(), c.flag<"reverse">(), offsets_of(c.inputs_of<kScan>()),
                     c.output<"grad_b">(), c.output<"grad_a">(), c.output<"grad_initial_state">());
}

}  // namespace
}  // namespace diagonal_scan

void register_diagonal_scan(Registry& registry) {
  using namespace diagonal_scan;
  registry.define<kScan>({
      .doc =
          "The diagonal recurrence x_t = a_t x_{t-1} + b_t, real or complex, carried in float32: the base of S4D, S5, "
          "LRU and HGRN. a is given per step, or once for all steps (La = 1), per batch entry or once (Ba = 1). The "
          "state before the first step is `initial_state`, else zero. `reverse` runs from the last step to the "
          "first: x_t = a_t x_{t+1} + b_t; `final_state` is then x_0. With `cu_seqlens`, 0 = c_0 <= ... <= c_S = L, "
          "the "
          "batch is 1 and steps [c_s, c_{s+1}) are sequence s, with states of its own.",
      .check = [](const CallOf<kScan>& c) { check(c, "b"); },
      .reference = reference,
      .cpu = vector_forward,
  });
  registry.define<kBackward>({
      .doc = "Derivative of diagonal_scan: g_t = grad_x_t + conj(a_{t+1}) g_{t+1}, grad_b = g, grad_a_t = g_t "
             "conj(x_{t-1}), summed over the dims that a repeats in.",
      .check = [](const CallOf<kBackward>& c) { check(c.inputs_of<kScan>(), "x"); },
      .reference = reference,
      .cpu = vector_backward,
  });
}

}  // namespace mambasdk
