#include "ops/gru/gru_args.hpp"

#include <vector>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/gru/reference.hpp"

namespace mambasdk {
namespace gru {
namespace {

constexpr Declaration kGru =
    "gru(gates: T[B,L,3*N], weight: W[3*N,N], bias: W[3*N]?, initial: T[B,N]?, lengths: i32[B]?, "
    "reverse: bool = false) -> (y: T[B,L,N], last: T[B,N])";
using Call = CallOf<kGru>;

std::int32_t length_of(const Tensor& lengths, std::int64_t b) {
  return lengths.ptr<const std::int32_t>()[b * lengths.stride(0)];
}

void check(const Call& c) {
  const Tensor* lengths = c.optional<"lengths">();
  if (lengths == nullptr || lengths->data == nullptr || lengths->device != Device::cpu) return;
  for (std::int64_t b = 0; b < lengths->size(0); ++b) {
    const std::int64_t length = length_of(*lengths, b);
    if (length < 0 || length > c.dim<"L">()) {
      fail(ErrorCode::invalid_argument, c.operation(), ": lengths[", b, "] is ", length, ", expected 0 to ",
           c.dim<"L">(), ", the length of gates");
    }
  }
}

// Arguments and the lengths they point to.
struct Problem {
  std::vector<std::int32_t> lengths;
  Args args;

  explicit Problem(const Call& c)
      : args{.batch = c.dim<"B">(),
             .length = c.dim<"L">(),
             .units = c.dim<"N">(),
             .type = c.tensor<"gates">().dtype,
             .weight_type = c.tensor<"weight">().dtype,
             .gates = strided_view(c.tensor<"gates">()),
             .weight = strided_view(c.tensor<"weight">()),
             .bias = strided_view(c.optional<"bias">()),
             .initial = strided_view(c.optional<"initial">()),
             .reverse = c.flag<"reverse">(),
             .y = c.output<"y">().data,
             .last = c.output<"last">().data} {
    if (const Tensor* given = c.optional<"lengths">(); given != nullptr) {
      for (std::int64_t b = 0; b < args.batch && args.units > 0; ++b) lengths.push_back(length_of(*given, b));
      args.lengths = lengths.data();
    }
  }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  [[nodiscard]] bool is_empty() const { return args.batch == 0 || args.units == 0; }
};

void reference(const Call& c) {
  const Problem problem(c);
  if (!problem.is_empty()) reference_gru(problem.args);
}

void vector_gru(const Call& c) {
  const Problem problem(c);
  if (problem.is_empty()) return;
  const Args& a = problem.args;
  // More than the kernel takes of workspace, in checked arithmetic: its own sums cannot overflow then.
  const Extent units = Extent(a.units).rounded_up(kPanelUnits);
  (void)(Extent(sizeof(float)) * (units * (3 * Extent(a.units) + 3) + 2 * units * a.batch + 64));
  const auto workspace = c.context().workspace(static_cast<std::size_t>(MAMBASDK_PICK(gru_workspace_bytes)(a)));
  MAMBASDK_PICK(gru)(a, workspace.get(), c.context().parallel());
}

}  // namespace
}  // namespace gru

void register_gru(Registry& registry) {
  using namespace gru;
  registry.define<kGru>({
      .doc =
          "A gated recurrent unit over L steps (arXiv 1406.1078), as torch.nn.GRU: with i = gates[:, t], which is x "
          "weight_ih^T + bias_ih of a `linear`, and g = h weight^T + bias, both of three parts of N: r = sigmoid(i_0 "
          "+ g_0), z = sigmoid(i_1 + g_1), n = tanh(i_2 + r g_2), h = (1 - z) n + z h. y holds h after each step, "
          "last that after the last. h starts as `initial`, or 0, and is float32 between steps. lengths: row b has "
          "the steps before lengths[b]; y is 0 behind them. reverse: from the last step of each row to the first. "
          "For inference: it has no derivative.",
      .check = check,
      .reference = reference,
      .cpu = vector_gru,
  });
}

}  // namespace mambasdk
