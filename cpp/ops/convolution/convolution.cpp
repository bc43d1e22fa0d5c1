#include "ops/convolution/convolution.hpp"

#include "core/registry.hpp"

namespace mambasdk {
namespace convolution {
namespace {

// What the declarations share: an output's extents, made of the input's and the kernel's, and arguments.
#define MAMBASDK_EXTENT(in, kernel, d) \
  "(" in "+padding_" d "+padding_after_" d "-dilation_" d "*(" kernel "-1)-1)//stride_" d "+1"
#define MAMBASDK_TRANSPOSED_EXTENT(in, kernel, d) \
  "(" in "-1)*stride_" d "-2*padding_" d "+dilation_" d "*(" kernel "-1)+output_padding_" d "+1"
#define MAMBASDK_MAP(extent, kd, kh, kw, columns) \
  "T[B," extent("D", kd, "d") "," extent("H", kh, "h") "," extent("W", kw, "w") "," columns "]"
#define MAMBASDK_PLACES                                                                               \
  "stride_d: int = 1, stride_h: int = 1, stride_w: int = 1, padding_d: int = 0, padding_h: int = 0, " \
  "padding_w: int = 0, dilation_d: int = 1, dilation_h: int = 1, dilation_w: int = 1, "
#define MAMBASDK_AFTER "padding_after_d: int = 0, padding_after_h: int = 0, padding_after_w: int = 0, "
#define MAMBASDK_OUTPUT_PADDING "output_padding_d: int = 0, output_padding_h: int = 0, output_padding_w: int = 0, "
#define MAMBASDK_ENDING "activation: int = 0, slope: float = 0.01, residual_last: bool = false"
#define MAMBASDK_PACKED_WEIGHT "weight: V[(features+31)//32,kernel_d*kernel_h*kernel_w*C,32], bias: A[features]?, "
#define MAMBASDK_PACKED_SIZES "features: int, kernel_d: int = 1, kernel_h: int = 1, kernel_w: int = 1, "

#define MAMBASDK_Y MAMBASDK_MAP(MAMBASDK_EXTENT, "KD", "KH", "KW", "O")
constexpr Declaration kConvolution =
    "convolution(x: T[B,D,H,W,C], weight: V[O,KD,KH,KW,G], bias: A[O]?, " MAMBASDK_PLACES MAMBASDK_AFTER
    "groups: int = 1, residual: " MAMBASDK_Y "?, " MAMBASDK_ENDING ") -> (y: " MAMBASDK_Y ")";
#undef MAMBASDK_Y
#define MAMBASDK_Y MAMBASDK_MAP(MAMBASDK_EXTENT, "kernel_d", "kernel_h", "kernel_w", "features")
constexpr Declaration kPacked =
    "convolution_packed(x: T[B,D,H,W,C], " MAMBASDK_PACKED_WEIGHT MAMBASDK_PACKED_SIZES MAMBASDK_PLACES MAMBASDK_AFTER
    "residual: " MAMBASDK_Y "?, " MAMBASDK_ENDING ") -> (y: " MAMBASDK_Y ")";
#undef MAMBASDK_Y
#define MAMBASDK_Y MAMBASDK_MAP(MAMBASDK_TRANSPOSED_EXTENT, "KD", "KH", "KW", "groups*G")
constexpr Declaration kTransposed =
    "convolution_transposed(x: T[B,D,H,W,C], weight: V[C,KD,KH,KW,G], bias: "
    "A[groups*G]?, " MAMBASDK_PLACES MAMBASDK_OUTPUT_PADDING "groups: int = 1, residual: " MAMBASDK_Y
    "?, " MAMBASDK_ENDING ") -> (y: " MAMBASDK_Y ")";
#undef MAMBASDK_Y
#define MAMBASDK_Y MAMBASDK_MAP(MAMBASDK_TRANSPOSED_EXTENT, "kernel_d", "kernel_h", "kernel_w", "features")
constexpr Declaration kTransposedPacked =
    "convolution_transposed_packed(x: T[B,D,H,W,C], " MAMBASDK_PACKED_WEIGHT MAMBASDK_PACKED_SIZES
        MAMBASDK_PLACES MAMBASDK_OUTPUT_PADDING "residual: " MAMBASDK_Y "?, " MAMBASDK_ENDING ") -> (y: " MAMBASDK_Y
    ")";
#undef MAMBASDK_Y

template <const Declaration& kOp>
inline constexpr bool is_transposed = kOp.input("output_padding_d") >= 0;
template <const Declaration& kOp>
inline constexpr bool is_packed = kOp.input("kernel_d") >= 0;

template <const Declaration& kOp>
Geometry geometry(const CallOf<kOp>& c) {
  if constexpr (is_packed<kOp>) {
    return geometry_of(
        c, {c.template integer<"kernel_d">(), c.template integer<"kernel_h">(), c.template integer<"kernel_w">()},
        is_transposed<kOp>);
  } else {
    return geometry_of(c, {c.template dim<"KD">(), c.template dim<"KH">(), c.template dim<"KW">()}, is_transposed<kOp>);
  }
}

template <const Declaration& kOp>
Problem problem(const CallOf<kOp>& c) {
  Problem p{.context = c.context(),
            .operation = c.operation(),
            .geometry = geometry(c),
            .x = c.template tensor<"x">(),
            .weight = c.template tensor<"weight">(),
            .y = c.template output<"y">(),
            .packed = is_packed<kOp>,
            .ending = packed::ending_of(c)};
  if constexpr (!is_packed<kOp>) p.groups = c.template integer<"groups">();
  p.channels = c.template dim<"C">() / p.groups;
  p.columns = p.y.size(4) / p.groups;
  return p;
}

template <const Declaration& kOp>
void check(const CallOf<kOp>& c) {
  (void)packed::ending_of(c);
  if constexpr (!is_packed<kOp>) {
    const std::int64_t groups = c.template integer<"groups">();
    const auto divides = [&](std::int64_t channels, const char* of) {
      if (groups >= 1 && channels % groups == 0) return;
      fail(ErrorCode::invalid_argument, c.operation(), ": groups is ", groups, ", expected a divisor of ", channels,
           ", the channels of ", of);
    };
    divides(c.template dim<"C">(), "x");
    if constexpr (!is_transposed<kOp>) {
      divides(c.template dim<"O">(), "y");
      if (c.template dim<"G">() * groups != c.template dim<"C">()) {
        fail(ErrorCode::invalid_argument, c.operation(), ": weight has ", c.template dim<"G">(), " channels, expected ",
             c.template dim<"C">() / groups, ": x has ", c.template dim<"C">(), " channels in ", groups, " groups");
      }
    }
  }
  if constexpr (is_transposed<kOp>) {
    check_geometry(c.operation(), geometry(c), {0, 0, 0});
  } else {
    check_geometry(c.operation(), geometry(c),
                   {c.template integer<"padding_after_d">(), c.template integer<"padding_after_h">(),
                    c.template integer<"padding_after_w">()});
  }
}

template <const Declaration& kOp>
void define(Registry& registry, std::string_view doc) {
  registry.define<kOp>({.doc = doc,
                        .check = check<kOp>,
                        .reference = [](const CallOf<kOp>& c) { reference(problem(c)); },
                        .cpu = [](const CallOf<kOp>& c) { run(problem(c)); }});
}

}  // namespace
}  // namespace convolution

void register_convolution(Registry& registry) {
  using namespace convolution;
  const std::string ending = concat(
      " y = activation(sums + bias + residual), or activation(sums + bias) + residual where residual_last is true. "
      "activation: ",
      activation_list(), "; slope is that of leaky_relu. For inference: it has no derivative.");
  define<kConvolution>(
      registry, concat("The convolution (cross-correlation, as torch's) of a map with its channels last; a map of two "
                       "extents has D = 1, one of one has D = H = 1. weight is a view of torch's (O, C / groups, KD, "
                       "KH, KW) with the channels last. padding_d zeros stand before x along its depth and "
                       "padding_after_d behind it; the same for h and w. Every call packs the weights, where they are "
                       "not depthwise: programs use convolution_packed.",
                       ending));
  define<kPacked>(registry,
                  concat("convolution with weights from pack_weights, of (features, kernel_d kernel_h kernel_w C) in "
                         "that order, and one group.",
                         ending));
  define<kTransposed>(
      registry, concat("The transposed convolution of a map with its channels last, as torch's ConvTranspose: each "
                       "element of x adds its products with the weights to y from its place times the stride on, the "
                       "outer padding_d of which are left out. weight is a view of torch's (C, O / groups, KD, KH, KW) "
                       "with the output's channels last.",
                       ending));
  define<kTransposedPacked>(registry,
                            concat("convolution_transposed with weights from pack_weights, of (features, kernel_d "
                                   "kernel_h kernel_w C) in that order, and one group.",
                                   ending));
}

}  // namespace mambasdk
