#include "ops/linear/linear.hpp"

#include <algorithm>
#include <vector>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "kernels/gemm.hpp"
#include "ops/linear/reference.hpp"

namespace mambasdk {
namespace linear {
namespace {

constexpr Declaration kLinear = "linear(x: T[*,I], weight: W[O,I], bias: W[O]?) -> (y: T[*,O])";
constexpr Declaration kEmbedding = "embedding(indices: i32[*], weight: W[V,D]) -> (y: f32[*,D])";

std::size_t bytes_of(std::int64_t rows, std::int64_t columns) {
  return (Extent(rows) * columns * sizeof(float)).bytes();
}

// Rows that the GEMM can read as they are: float32, last stride 1.
bool is_plain(const Rows& rows) {
  return rows.type == dtype::f32 && rows.element_stride == 1 && rows.offset == nullptr;
}

void vector_linear(const Context& context, const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& y) {
  const std::int64_t rows = row_count(x), in = weight.size(1), out = weight.size(0);
  if (rows == 0 || out == 0) return;
  const Parallel parallel = context.parallel();
  std::vector<std::int64_t> x_offsets, none;
  Rows x_rows = rows_view(&x, x_offsets);
  Context::Workspace wide(nullptr, {});
  if (!is_plain(x_rows)) {
    wide = context.workspace(bytes_of(rows, in));
    auto* data = reinterpret_cast<float*>(wide.get());
    MAMBASDK_PICK(linear_widen)({x_rows, rows, in, data}, parallel);
    x_rows = Rows{data, nullptr, in, 1, dtype::f32};
  }
  const auto* x_data = static_cast<const float*>(x_rows.data);
  Rows weight_rows = rows_view(&weight, none);
  const Rows bias_row = rows_view(bias, none);
  const StreamArgs stream{rows, in, out, x_data, x_rows.stride, weight_rows, bias_row, y.data, y.dtype};
  if (rows <= kMaxStreamedRows) return MAMBASDK_PICK(linear_stream)(stream, parallel);
  if (rows <= kMaxDotRows && in >= kLeastDotFeatures && weight_rows.element_stride == 1) {
    return MAMBASDK_PICK(linear_dots)(stream, parallel);
  }
  Context::Workspace wide_weight(nullptr, {});
  if (weight_rows.element_stride != 1) {
    wide_weight = context.workspace(bytes_of(out, in));
    auto* data = reinterpret_cast<float*>(wide_weight.get());
    MAMBASDK_PICK(linear_widen)({weight_rows, out, in, data}, parallel);
    weight_rows = Rows{data, nullptr, in, 1, dtype::f32};
  }
  const bool direct = y.dtype == dtype::f32;
  Context::Workspace product(nullptr, {});
  if (!direct) product = context.workspace(bytes_of(rows, out));
  float* c = direct ? y.ptr<float>() : reinterpret_cast<float*>(product.get());
  const Gemm gemm_args{.m = rows,
                       .n = out,
                       .k = in,
                       .a = x_data,
                       .a_row = x_rows.stride,
                       .a_col = 1,
                       .b = weight_rows.data,
                       .b_dtype = weight_rows.type,
                       .b_row = weight_rows.stride,
                       .b_transposed = true,
                       .c = c,
                       .c_row = out,
                       .accumulate = false};
  (void)bytes_of(Extent(out).rounded_up(kMaxPackedColumns).value(), in);  // gemm_workspace_bytes does not check
  const std::int64_t gemm_bytes = MAMBASDK_PICK(gemm_workspace_bytes)(gemm_args);
  const Context::Workspace packed = context.workspace(static_cast<std::size_t>(gemm_bytes));
  MAMBASDK_PICK(gemm)(gemm_args, packed.get(), parallel);
  if (direct && bias == nullptr) return;
  const Context::Workspace table = context.workspace(bytes_of(1, out));
  MAMBASDK_PICK(linear_finish)({c, rows, out, bias_row, reinterpret_cast<float*>(table.get()), y.data, y.dtype},
                               parallel);
}

template <bool kReference>
void run_linear(const CallOf<kLinear>& c) {
  const Tensor &x = c.tensor<"x">(), &weight = c.tensor<"weight">();
  if constexpr (kReference) {
    reference_linear(x, weight, c.optional<"bias">(), c.output<"y">());
  } else {
    vector_linear(c.context(), x, weight, c.optional<"bias">(), c.output<"y">());
  }
}

// ---- embedding ----

std::int64_t flat_offset(const Tensor& t, std::int64_t i) {
  std::int64_t offset = 0;
  for (int d = t.ndim - 1; d >= 0; --d) {
    offset += i % t.size(d) * t.stride(d);
    i /= t.size(d);
  }
  return offset;
}

void check_embedding(const CallOf<kEmbedding>& c) {
  const Tensor& indices = c.tensor<"indices">();
  if (indices.data == nullptr || indices.device != Device::cpu) return;
  const std::int64_t vocabulary = c.dim<"V">();
  const std::int64_t count = indices.numel();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t index = indices.ptr<const std::int32_t>()[flat_offset(indices, i)];
    if (index < 0 || index >= vocabulary) {
      fail(ErrorCode::invalid_argument, "embedding: element ", i, " of indices is ", index, ", expected 0 to ",
           vocabulary - 1, ": weight has ", vocabulary, " rows");
    }
  }
}

template <bool kReference>
void run_embedding(const CallOf<kEmbedding>& c) {
  const Tensor &indices = c.tensor<"indices">(), &weight = c.tensor<"weight">(), &y = c.output<"y">();
  const std::int64_t count = indices.numel();
  std::vector<std::int32_t> flat;
  const std::int32_t* data = indices.ptr<const std::int32_t>();
  if (!indices.is_contiguous()) {
    flat.resize(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) flat[static_cast<std::size_t>(i)] = data[flat_offset(indices, i)];
    data = flat.data();
  }
  if constexpr (kReference) {
    reference_embedding(data, count, weight, y);
  } else {
    std::vector<std::int64_t> none;
    MAMBASDK_PICK(embedding_rows)
    ({rows_view(&weight, none), weight.size(1), data, count, y.ptr<float>()}, c.context().parallel());
  }
}

}  // namespace
}  // namespace linear

void register_linear(Registry& registry) {
  using namespace linear;
  registry.define<kLinear>({
      .doc = "y = x weight^T + bias, accumulated in float32. Few rows of x stream the weights from memory; more go "
             "through "
             "a blocked matrix product. For inference: it has no derivative.",
      .reference = run_linear<true>,
      .cpu = run_linear<false>,
  });
  registry.define<kEmbedding>({
      .doc = "Row indices[i] of weight, widened to float32. An index outside 0 to V-1 is an error.",
      .check = check_embedding,
      .reference = run_embedding<true>,
      .cpu = run_embedding<false>,
  });
}

}  // namespace mambasdk
