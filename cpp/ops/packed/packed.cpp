#include "ops/packed/packed.hpp"

#include <vector>

#include "core/element.hpp"
#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/linear/linear.hpp"

namespace mambasdk {
namespace packed {
namespace {

constexpr Declaration kPack = "pack_weights(weight: W[O,K]) -> (y: W[(O+31)//32,K,32])";
constexpr Declaration kLinear =
    "linear_packed(x: T[*,K], weight: W[(features+31)//32,K,32], bias: B[features]?, residual: T[*,features]?, "
    "features: int, activation: int = 0, slope: float = 0.01, residual_last: bool = false, round_x: bool = false) "
    "-> (y: T[*,features])";

void reference_pack(const CallOf<kPack>& c) {
  const Tensor &weight = c.tensor<"weight">(), &y = c.output<"y">();
  const std::int64_t columns = c.dim<"O">(), depth = c.dim<"K">();
  for (std::int64_t i = 0, count = y.numel(); i < count; ++i) {
    const std::int64_t k = i / kPackedColumns % depth;
    const std::int64_t o = i / kPackedColumns / depth * kPackedColumns + i % kPackedColumns;
    const std::int64_t from = o * weight.stride(0) + k * weight.stride(1);
    store_element(y.data, y.dtype, i, o < columns ? load_element(weight.data, weight.dtype, from) : 0.0);
  }
}

void vector_pack(const CallOf<kPack>& c) {
  const Tensor &weight = c.tensor<"weight">(), &y = c.output<"y">();
  const std::int64_t offset = 0;
  MAMBASDK_PICK(pack_panels)
  ({.weight = weight.data,
    .type = weight.dtype,
    .columns = c.dim<"O">(),
    .taps = 1,
    .channels = c.dim<"K">(),
    .column_stride = weight.stride(0),
    .channel_stride = weight.stride(1),
    .tap_offset = &offset,
    .panels = y.data},
   c.context().parallel());
}

// Rounding to bfloat16 is for weights that are so.
bool rounds_x(const CallOf<kLinear>& c) {
  return c.flag<"round_x">() && c.tensor<"weight">().dtype == dtype::bf16;
}

void check_linear(const CallOf<kLinear>& c) {
  (void)ending_of(c);
}

void reference_linear(const CallOf<kLinear>& c) {
  const Tensor &x = c.tensor<"x">(), &weight = c.tensor<"weight">(), &y = c.output<"y">();
  const std::int64_t rows = row_count(x), depth = c.dim<"K">(), columns = c.dim<"features">();
  const Ending end = ending_of(c);
  const bool rounds = rounds_x(c);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t first = row_offset(x, r);
    for (std::int64_t o = 0; o < columns; ++o) {
      const std::int64_t column = o / kPackedColumns * weight.stride(0) + o % kPackedColumns * weight.stride(2);
      double sum = 0.0;
      for (std::int64_t k = 0; k < depth; ++k) {
        const double element = load_element(x.data, x.dtype, first + k * x.stride(-1));
        sum += (rounds ? to_float(from_float<bf16>::cast(static_cast<float>(element))) : element) *
               load_element(weight.data, weight.dtype, column + k * weight.stride(1));
      }
      store_element(y.data, y.dtype, r * columns + o, ended(end, sum, r, o));
    }
  }
}

void vector_linear(const CallOf<kLinear>& c) {
  const Tensor& x = c.tensor<"x">();
  const Context& context = c.context();
  const std::int64_t rows = row_count(x), depth = c.dim<"K">();
  std::vector<std::int64_t> offsets;
  Rows x_rows = rows_view(&x, offsets);
  Context::Workspace wide(nullptr, {});
  if (x_rows.offset != nullptr) {
    wide = context.workspace((Extent(rows) * depth * sizeof(float)).bytes());
    auto* data = reinterpret_cast<float*>(wide.get());
    MAMBASDK_PICK(linear_widen)({x_rows, rows, depth, data}, context.parallel());
    x_rows = Rows{data, nullptr, depth, 1, dtype::f32};
  }
  const PackedWeight weight(context, c.tensor<"weight">());
  constexpr Tap kHere{};
  Windows w;
  w.x = x_rows.data;
  w.x_type = x_rows.type;
  w.x_stride[3] = x_rows.stride;
  w.x_stride[4] = x_rows.element_stride;
  w.in[2] = w.count[2] = w.out[2] = rows;
  w.channels = depth;
  w.rounds = rounds_x(c) && w.x_type != dtype::bf16;
  for (auto& taps : w.taps) taps = &kHere;
  w.weight = weight.data();
  w.weight_type = weight.type();
  w.columns = c.dim<"features">();
  w.panels = panel_count(w.columns);
  run_windows(context, c.operation(), {&w, 1}, ending_of(c), c.output<"y">());
}

}  // namespace

PackedWeight::PackedWeight(const Context& context, const Tensor& weight, bool packed)
    : data_(weight.data), type_(weight.dtype), copy_(nullptr, {}) {
  if (!packed || weight.is_contiguous()) return;
  const std::int64_t rows = weight.numel() / kPackedColumns;
  copy_ = context.workspace((Extent(weight.numel()) * sizeof(float)).bytes());
  std::vector<std::int64_t> offsets;
  auto* wide = reinterpret_cast<float*>(copy_.get());
  MAMBASDK_PICK(linear_widen)({rows_view(&weight, offsets), rows, kPackedColumns, wide}, context.parallel());
  data_ = wide;
  type_ = dtype::f32;
}

}  // namespace packed

void register_packed(Registry& registry) {
  using namespace packed;
  registry.define<kPack>({
      .doc = "Weights in the order in which products read them, 32 columns side by side: y[o // 32, k, o % 32] = "
             "weight[o, k], 0 beyond O. The same on every processor; a program packs once, when it is loaded. For "
             "inference: it has no derivative.",
      .reference = reference_pack,
      .cpu = vector_pack,
  });
  const std::string doc = concat(
      "y = activation(x weight^T + bias + residual), with weights from pack_weights and `features` of their columns, "
      "accumulated in float32; where residual_last is true, activation(x weight^T + bias) + residual. activation: ",
      activation_list(),
      "; slope is that of leaky_relu. Where round_x is true and weight is bfloat16, x is rounded to bfloat16 (by 2^-9 "
      "of "
      "an element at most), of which some processors multiply twice as many. A row's result depends on no other row. "
      "For inference: it has no derivative.");
  registry.define<kLinear>({
      .doc = doc,
      .check = check_linear,
      .reference = reference_linear,
      .cpu = vector_linear,
  });
}

}  // namespace mambasdk
