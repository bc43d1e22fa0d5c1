#include "ops/attention/attention_args.hpp"

#include <cmath>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/attention/reference.hpp"

namespace mambasdk {
namespace attention {
namespace {

constexpr Declaration kAttention =
    "attention(q: T[B,L,H,E], k: T[B,S,G,E], v: T[B,S,G,F], mask: T[B,H,L,S]?, scale: float, causal: bool = false, "
    "window: int = 0, with_probabilities: bool = false) "
    "-> (y: T[B,L,H,F], probabilities: T[B,H,L,S] if with_probabilities)";
using Call = CallOf<kAttention>;

void check(const Call& c) {
  const std::int64_t heads = c.dim<"H">(), groups = c.dim<"G">(), window = c.integer<"window">();
  if (groups == 0 ? heads != 0 : heads % groups != 0) {
    fail(ErrorCode::invalid_argument, c.operation(), ": q has ", heads, " heads, expected a multiple of the ", groups,
         " of k and v");
  }
  if (!std::isfinite(c.number<"scale">())) {
    fail(ErrorCode::invalid_argument, c.operation(), ": scale is ", c.number<"scale">(), ", expected a finite number");
  }
  if (window < 0) {
    fail(ErrorCode::invalid_argument, c.operation(), ": window is ", window,
         ", expected at least 1, or 0 for all keys");
  }
  if (window > 0 && !c.flag<"causal">()) {
    fail(ErrorCode::invalid_argument, c.operation(), ": window is ", window,
         ", expected 0 unless causal: it counts back from the query");
  }
}

Args args_of(const Call& c) {
  const Tensor& q = c.tensor<"q">();
  Args a{.batch = c.dim<"B">(),
         .queries = c.dim<"L">(),
         .keys = c.dim<"S">(),
         .heads = c.dim<"H">(),
         .groups = c.dim<"G">(),
         .width = c.dim<"E">(),
         .value_width = c.dim<"F">(),
         .type = q.dtype,
         .q = strided_view(q),
         .k = strided_view(c.tensor<"k">()),
         .v = strided_view(c.tensor<"v">()),
         .mask = strided_view(c.optional<"mask">()),
         .scale = static_cast<float>(c.number<"scale">()),
         .causal = c.flag<"causal">(),
         .window = c.integer<"window">(),
         .y = c.output<"y">().data,
         .probabilities = c.output<"probabilities">().data};
  if (!c.flag<"with_probabilities">()) a.probabilities = nullptr;
  return a;
}

bool is_empty(const Args& a) {
  return a.batch == 0 || a.queries == 0 || a.heads == 0 ||
         (a.value_width == 0 && (a.keys == 0 || a.probabilities == nullptr));
}

// More than any kernel takes of workspace, in checked arithmetic: the kernels' own sums cannot overflow then.
void check_workspace(const Args& a) {
  const Extent row = (Extent(a.width) + a.value_width).rounded_up(kWidthPadding) + 4 * kWidthPadding;
  const Extent block = row * (2 * kMaxRowLanes + 2 * kMaxKeyBlock) + 4 * kMaxRowLanes * kMaxKeyBlock;
  const Extent chunks = a.keys / kDecodeChunk + 2;
  (void)(Extent(sizeof(float)) * (block * kMaxSlots + chunks * a.batch * a.heads * row));
}

// The last dim of a view can be read with vectors.
bool has_unit_stride(const StridedView& view, std::int64_t extent) {
  return view.stride[3] == 1 || extent <= 1;
}

void reference(const Call& c) {
  const Args a = args_of(c);
  if (!is_empty(a)) reference_attention(a, c.number<"scale">());
}

void vector_attention(const Call& c) {
  const Args a = args_of(c);
  if (is_empty(a)) return;
  check_workspace(a);
  const bool decodes = a.queries <= kDecodeRows && a.queries * (a.heads / a.groups) <= kDecodeRows &&
                       a.probabilities == nullptr && has_unit_stride(a.k, a.width) &&
                       has_unit_stride(a.v, a.value_width);
  const auto bytes =
      decodes ? MAMBASDK_PICK(attention_decode_workspace_bytes) : MAMBASDK_PICK(attention_workspace_bytes);
  const auto kernel = decodes ? MAMBASDK_PICK(attention_decode) : MAMBASDK_PICK(attention);
  const auto workspace = c.context().workspace(static_cast<std::size_t>(bytes(a)));
  kernel(a, workspace.get(), c.context().parallel());
}

}  // namespace
}  // namespace attention

void register_attention(Registry& registry) {
  using namespace attention;
  registry.define<kAttention>({
      .doc = "y = softmax(scale q k^T + mask) v for each head (arXiv 1706.03762, eq. 1); softmax in float32. Grouped "
             "queries: head h reads group h / (H / G) of k and v, H a multiple of G. causal: query i sees keys up to "
             "i + S - L, so the last query sees all; window > 0: of those the last `window`. mask is added, -inf "
             "hides a key; it is usually an expanded view. Where a query sees no key its y is 0, and its probabilities "
             "are. probabilities: what softmax gives, 0 for hidden keys. The scores are made block by block and are "
             "never in memory as a whole. For inference: it has no derivative.",
      .check = check,
      .reference = reference,
      .cpu = vector_attention,
  });
}

}  // namespace mambasdk
