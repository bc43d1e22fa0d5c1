#include "ops/linear/linear.hpp"

#include <algorithm>
#include <vector>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "kernels/pairs.hpp"
#include "ops/linear/reference.hpp"

namespace mambasdk {
namespace linear {
namespace {

constexpr Declaration kLinear = "linear(x: T[*,I], weight: W[O,I], bias: W[O]?, round_x: bool = false) -> (y: T[*,O])";
constexpr Declaration kEmbedding = "embedding(indices: i32[*], weight: W[V,D]) -> (y: f32[*,D])";

std::size_t bytes_of(std::int64_t rows, std::int64_t columns) {
  return (Extent(rows) * columns * sizeof(float)).bytes();
}

// Rows that the GEMM can read as they are: float32, last stride 1.
bool is_plain(const Rows& rows) {
  return rows.type == dtype::f32 && rows.element_stride == 1 && rows.offset == nullptr;
}

// Rounding to bfloat16 is for weights that are so.
bool rounds_x(const CallOf<kLinear>& c) {
  return c.flag<"round_x">() && c.tensor<"weight">().dtype == dtype::bf16;
}

// x as the products of `blocks` take it; holds what it had to be copied into.
class BlockInput {
 public:
  BlockInput(const Context& context, Rows x, std::int64_t rows, std::int64_t in, bool rounds, bool pairs)
      : copy_(nullptr, {}) {
    if (pairs) {
      stride_ = Extent(in).rounded_up(kPairedElements).value() / kPairedElements;
    } else if (!rounds && is_plain(x)) {
      data_ = static_cast<const float*>(x.data);
      stride_ = x.stride;
      return;
    } else {
      stride_ = in;
    }
    copy_ = context.workspace(bytes_of(rows, stride_));
    auto* data = reinterpret_cast<float*>(copy_.get());
    if (pairs) {
      MAMBASDK_PICK(linear_round)({x, rows, in, stride_, data}, context.parallel());
    } else {
      MAMBASDK_PICK(linear_widen)({x, rows, in, data, rounds}, context.parallel());
    }
    data_ = data;
  }
  [[nodiscard]] const float* data() const { return data_; }
  [[nodiscard]] std::int64_t stride() const { return stride_; }

 private:
  Context::Workspace copy_;
  const float* data_ = nullptr;
  std::int64_t stride_ = 0;
};

#if defined(MAMBASDK_X86) && !defined(MAMBASDK_WITHOUT_AVX512_AMX)
void multiply_tiles(const Product& p, const Context& context, std::string_view operation) {
  const std::int64_t cells = tile_steps(p.in_features) * kTileBlock / kPairedElements;
  const Context::Workspace tiles = context.workspace(bytes_of(tile_rows(p.rows), cells));
  auto* x = reinterpret_cast<float*>(tiles.get());
  avx512_amx::linear_tile_input({p.x, p.rows, p.in_features, x}, context.parallel());
  const TileArgs a{p.rows, p.in_features, p.out_features, x, p.weight, p.bias, p.y, p.y_type};
  need_scratch(avx512_amx::linear_tiles(a, context.parallel(), thread_scratch(context)), operation);
}
#endif

}  // namespace

void multiply(const Product& p, const Context& context, std::string_view operation) {
  if (p.rows == 0 || p.out_features == 0) return;
  const std::int64_t rows = p.rows, in = p.in_features, out = p.out_features;
  const Parallel parallel = context.parallel();
  Rows weight = p.weight;
  const bool is_rounded = p.x.type == dtype::bf16, rounds = p.rounds_x && !is_rounded;
  const bool may_pair =
      (rounds || is_rounded) && weight.type == dtype::bf16 && weight.element_stride == 1 && rows > kMaxStreamedRows;
  const PairProducts products = may_pair ? pair_products() : PairProducts::none;
#if defined(MAMBASDK_X86) && !defined(MAMBASDK_WITHOUT_AVX512_AMX)
  if (products == PairProducts::tiles) return multiply_tiles(p, context, operation);
#endif
  const bool pairs = products == PairProducts::vectors;
  const BlockInput input(context, p.x, rows, in, rounds, pairs);
  const StreamArgs stream{rows, in, out, input.data(), input.stride(), weight, p.bias, p.y, p.y_type};
  if (rows <= kMaxStreamedRows) return MAMBASDK_PICK(linear_stream)(stream, parallel);
  if (!pairs && rows <= kMaxDotRows && in >= kLeastDotFeatures && weight.element_stride == 1) {
    return MAMBASDK_PICK(linear_dots)(stream, parallel);
  }
  Context::Workspace wide_weight(nullptr, {});
  if (weight.element_stride != 1) {
    wide_weight = context.workspace(bytes_of(out, in));
    auto* data = reinterpret_cast<float*>(wide_weight.get());
    MAMBASDK_PICK(linear_widen)({weight, out, in, data}, parallel);
    weight = Rows{data, nullptr, in, 1, dtype::f32};
  }
  (void)bytes_of(in, kMaxPackedBlock);  // the kernel does not check
  const BlockArgs blocks{rows, in, out, input.data(), input.stride(), pairs, weight, p.bias, p.y, p.y_type};
  need_scratch(MAMBASDK_PICK(linear_blocks)(blocks, parallel, thread_scratch(context)), operation);
}

namespace {

void vector_linear(const CallOf<kLinear>& c) {
  const Tensor &x = c.tensor<"x">(), &weight = c.tensor<"weight">(), &y = c.output<"y">();
  const std::int64_t rows = row_count(x);
  if (rows == 0 || weight.size(0) == 0) return;
  std::vector<std::int64_t> x_offsets, none;
  multiply({.rows = rows,
            .in_features = weight.size(1),
            .out_features = weight.size(0),
            .x = rows_view(&x, x_offsets),
            .weight = rows_view(&weight, none),
            .bias = rows_view(c.optional<"bias">(), none),
            .y = y.data,
            .y_type = y.dtype,
            .rounds_x = rounds_x(c)},
           c.context(), c.operation());
}

template <bool kReference>
void run_linear(const CallOf<kLinear>& c) {
  if constexpr (kReference) {
    reference_linear(c.tensor<"x">(), c.tensor<"weight">(), c.optional<"bias">(), rounds_x(c), c.output<"y">());
  } else {
    vector_linear(c);
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
             "through a blocked matrix product. Where round_x is true and weight is bfloat16, x is rounded to bfloat16 "
             "(by 2^-9 of an element at most), of which some processors multiply twice as many. For inference: it has "
             "no derivative.",
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
