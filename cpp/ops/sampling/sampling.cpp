#include "ops/sampling/sampling.hpp"

#include <cmath>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/channel_last.hpp"
#include "ops/sampling/reference.hpp"
#include "ops/sampling/sampling_args.hpp"

namespace mambasdk {
namespace sampling {
namespace {

constexpr Declaration kGrid =
    "grid_sample(x: T[B,D,H,W,C], grid: f32[B,d,h,w,A], mode: int = 0, padding_mode: int = 0, "
    "align_corners: bool = false) -> (y: T[B,d,h,w,C])";
constexpr Declaration kDeformable =
    "deformable_sample(x: T[B,H,W,C], offset_mask: T[B,h,w,E], groups: int = 1, kernel_h: int = 3, kernel_w: int = 3, "
    "stride_h: int = 1, stride_w: int = 1, padding_h: int = 1, padding_w: int = 1, dilation_h: int = 1, "
    "dilation_w: int = 1, offset_scale: float = 1) -> (y: T[B,h,w,C])";
constexpr Declaration kDeformableBackward = kDeformable.derivative();

// ---- checks ----

// Positions of x that float32 and 32-bit offsets can name, and an element to read.
void check_map(const std::string& operation, const Tensor& x, bool is_sampled) {
  if (!is_sampled) return;
  if (x.numel() == 0) {
    fail(ErrorCode::invalid_argument, operation, ": x is ", x.shape_text(), ", expected an element to sample");
  }
  Extent elements = 1;
  for (int d = 1; d < x.ndim; ++d) {
    elements *= x.size(d);
    if (d + 1 == x.ndim || x.size(d) <= kMostPositions) continue;
    fail(ErrorCode::invalid_argument, operation, ": x is ", x.shape_text(), ", expected spatial extents of at most ",
         kMostPositions);
  }
  if (elements.value() > INT32_MAX) {
    fail(ErrorCode::invalid_argument, operation, ": x is ", x.shape_text(),
         ", expected at most 2^31 - 1 elements in each entry of the batch");
  }
}

Rule rule_of(const CallOf<kGrid>& c) {
  return {static_cast<Mode>(c.integer<"mode">()), static_cast<Padding>(c.integer<"padding_mode">()),
          c.flag<"align_corners">()};
}

void check_grid(const CallOf<kGrid>& c) {
  const std::int64_t mode = c.integer<"mode">(), padding = c.integer<"padding_mode">(), axes = c.dim<"A">();
  const std::int64_t depth = c.dim<"D">();
  if (mode < 0 || mode > 2) {
    fail(ErrorCode::invalid_argument, c.operation(), ": mode is ", mode,
         ", expected 0 (linear), 1 (nearest) or 2 (cubic)");
  }
  if (padding < 0 || padding > 2) {
    fail(ErrorCode::invalid_argument, c.operation(), ": padding_mode is ", padding,
         ", expected 0 (zeros), 1 (border) or 2 (reflection)");
  }
  if (axes != 2 && axes != 3) {
    fail(ErrorCode::invalid_argument, c.operation(), ": grid has ", axes, " coordinates, expected 2 or 3");
  }
  if (axes == 2 && depth != 1) {
    fail(ErrorCode::invalid_argument, c.operation(), ": grid has 2 coordinates, expected 3: the depth of x is ", depth);
  }
  if (mode == static_cast<std::int64_t>(Mode::cubic) && axes != 2) {
    fail(ErrorCode::invalid_argument, c.operation(), ": grid has 3 coordinates, expected 2: mode is cubic");
  }
  check_map(c.operation(), c.tensor<"x">(), c.output<"y">().numel() > 0);
}

// The window of one axis, and that offset_mask has an entry for each place that it takes.
struct Slide {
  const char* axis;
  std::int64_t size, kernel, stride, padding, dilation, places;

  void check(const std::string& operation) const {
    const auto within = [&](const char* name, std::int64_t value, std::int64_t least) {
      if (value >= least && value <= INT32_MAX) return;
      fail(ErrorCode::invalid_argument, operation, ": ", name, axis, " is ", value, ", expected ", least, " to ",
           INT32_MAX);
    };
    within("kernel_", kernel, 1);
    within("stride_", stride, 1);
    within("padding_", padding, 0);
    within("dilation_", dilation, 1);
    const std::int64_t left = (Extent(size) + 2 * padding - dilation * (kernel - 1) - 1).value();
    const std::int64_t expected = left < 0 ? 0 : left / stride + 1;
    if (places == expected) return;
    fail(ErrorCode::invalid_argument, operation, ": offset_mask has ", places, " places along ", axis, ", expected ",
         expected, ": those of the window in x, of which there are ", size);
  }
};

void check_deformable(const InputsOf<kDeformable>& c) {
  const std::int64_t kernel[2] = {c.integer<"kernel_h">(), c.integer<"kernel_w">()};
  const Slide h{"h",
                c.dim<"H">(),
                kernel[0],
                c.integer<"stride_h">(),
                c.integer<"padding_h">(),
                c.integer<"dilation_h">(),
                c.dim<"h">()};
  const Slide w{"w",
                c.dim<"W">(),
                kernel[1],
                c.integer<"stride_w">(),
                c.integer<"padding_w">(),
                c.integer<"dilation_w">(),
                c.dim<"w">()};
  h.check(c.operation());
  w.check(c.operation());
  if (kernel[0] > kMostTaps || kernel[1] > kMostTaps || kernel[0] * kernel[1] > kMostTaps) {
    fail(ErrorCode::invalid_argument, c.operation(), ": the window is ", kernel[0], " x ", kernel[1],
         ", expected at most ", kMostTaps, " taps");
  }
  const std::int64_t groups = c.integer<"groups">(), channels = c.dim<"C">(), entries = c.dim<"E">();
  if (groups < 1 || channels % groups != 0) {
    fail(ErrorCode::invalid_argument, c.operation(), ": groups is ", groups, ", expected a divisor of C = ", channels);
  }
  const Extent needed = Extent(groups) * 3 * kernel[0] * kernel[1];
  if (needed > entries) {
    fail(ErrorCode::invalid_argument, c.operation(), ": offset_mask has ", entries, " entries, expected at least ",
         needed.value(), ": two offsets and a mask for each tap of ", groups, " groups");
  }
  if (!std::isfinite(c.number<"offset_scale">())) {
    fail(ErrorCode::invalid_argument, c.operation(), ": offset_scale is ", c.number<"offset_scale">(),
         ", expected a finite number");
  }
  const bool is_sampled = c.dim<"B">() > 0 && c.dim<"h">() > 0 && c.dim<"w">() > 0 && channels > 0;
  check_map(c.operation(), c.tensor<"x">(), is_sampled);
}

// ---- kernels ----

// x with channels side by side and with offsets that fit 32 bits: a copy where they are not so.
Tensor sampled(const Tensor& x, const Context& context, Context::Workspace& scratch) {
  std::int64_t span = 0;
  for (int d = 1; d < x.ndim; ++d) span += (x.size(d) - 1) * x.stride(d);
  return channel_last(x, context, scratch, span > INT32_MAX);
}

void scalar_grid(const CallOf<kGrid>& c) {
  reference_grid(c.tensor<"x">(), c.tensor<"grid">(), rule_of(c), c.output<"y">());
}

void vector_grid(const CallOf<kGrid>& c) {
  Context::Workspace copy{nullptr, {}};
  const Tensor& grid = c.tensor<"grid">();
  GridArgs a{.x = map_of(sampled(c.tensor<"x">(), c.context(), copy)), .rule = rule_of(c)};
  a.axes = static_cast<int>(c.dim<"A">());
  a.grid = grid.ptr<const float>();
  for (int d = 0; d < 5; ++d) a.grid_stride[d] = grid.stride(d);
  for (int d = 0; d < 3; ++d) a.size[d] = grid.size(d + 1);
  a.y = c.output<"y">().data;
  MAMBASDK_PICK(grid_sample)(a, c.context().parallel());
}

DeformableArgs window_of(const InputsOf<kDeformable>& c) {
  return {.groups = c.integer<"groups">(),
          .kernel = {c.integer<"kernel_h">(), c.integer<"kernel_w">()},
          .stride = {c.integer<"stride_h">(), c.integer<"stride_w">()},
          .padding = {c.integer<"padding_h">(), c.integer<"padding_w">()},
          .dilation = {c.integer<"dilation_h">(), c.integer<"dilation_w">()},
          .offset_scale = c.number<"offset_scale">(),
          .size = {c.dim<"h">(), c.dim<"w">()}};
}

// The same with its tensors: x may be copied to `copy`.
DeformableArgs sampled_window_of(const InputsOf<kDeformable>& c, Context::Workspace& copy) {
  const Tensor x = sampled(c.tensor<"x">(), c.context(), copy), &offset_mask = c.tensor<"offset_mask">();
  DeformableArgs a = window_of(c);
  a.x = {.data = x.data,
         .type = x.dtype,
         .batch = x.size(0),
         .channels = x.size(3),
         .size = {1, x.size(1), x.size(2)},
         .batch_stride = x.stride(0),
         .stride = {0, x.stride(1), x.stride(2)}};
  a.offset_mask = offset_mask.data;
  for (int d = 0; d < 4; ++d) a.offset_mask_stride[d] = offset_mask.stride(d);
  return a;
}

void scalar_deformable(const CallOf<kDeformable>& c) {
  reference_deformable(c.tensor<"x">(), c.tensor<"offset_mask">(), window_of(c), c.output<"y">());
}

void vector_deformable(const CallOf<kDeformable>& c) {
  Context::Workspace copy{nullptr, {}};
  DeformableArgs a = sampled_window_of(c, copy);
  a.y = c.output<"y">().data;
  MAMBASDK_PICK(deformable_sample)(a, c.context().parallel());
}

void check_deformable_backward(const CallOf<kDeformableBackward>& c) {
  check_deformable(c.inputs_of<kDeformable>());
}

void scalar_deformable_backward(const CallOf<kDeformableBackward>& c) {
  reference_deformable_backward(c.tensor<"grad_y">(), c.tensor<"x">(), c.tensor<"offset_mask">(),
                                window_of(c.inputs_of<kDeformable>()), c.output<"grad_x">(),
                                c.output<"grad_offset_mask">());
}

void vector_deformable_backward(const CallOf<kDeformableBackward>& c) {
  Context::Workspace copies[3] = {{nullptr, {}}, {nullptr, {}}, {nullptr, {}}};
  const Tensor grad_y = channel_last(c.tensor<"grad_y">(), c.context(), copies[0]), &grad_x = c.output<"grad_x">();
  DeformableGradientArgs d{.forward = sampled_window_of(c.inputs_of<kDeformable>(), copies[1]),
                           .grad_y = grad_y.data,
                           .grad_y_stride = {grad_y.stride(0), grad_y.stride(1), grad_y.stride(2)},
                           .grad_x = grad_x.data,
                           .grad_offset_mask = c.output<"grad_offset_mask">().data,
                           .entries = c.dim<"E">()};
  if (grad_x.dtype == dtype::f32) {
    d.sums = grad_x.ptr<float>();
  } else {
    copies[2] = c.context().workspace((Extent(grad_x.numel()) * sizeof(float)).bytes());
    d.sums = reinterpret_cast<float*>(copies[2].get());
  }
  MAMBASDK_PICK(deformable_sample_backward)(d, c.context().parallel());
}

}  // namespace
}  // namespace sampling

void register_sampling(Registry& registry) {
  using namespace sampling;
  registry.define<kGrid>({
      .doc = "x at the positions of `grid`, as torch.nn.functional.grid_sample: A coordinates (width, height, then "
             "depth, which may be left out where D is 1), of which -1 and 1 are the edges of x, or with align_corners "
             "the middles of its outermost elements. mode is 0 (linear), 1 (nearest) or 2 (cubic, without depth); "
             "padding_mode, of positions outside, 0 (zeros), 1 (border) or 2 (reflection). A coordinate that is no "
             "number lies beyond the end. For inference: it has no derivative.",
      .check = check_grid,
      .reference = scalar_grid,
      .cpu = vector_grid,
  });
  registry.define<kDeformable>({
      .doc = "The sampling of DCNv4 (arXiv 2401.06197): for each output position and each of `groups` groups of "
             "channels the sum over kernel_h x kernel_w taps of mask * x at center + (tap + offset) * offset_scale, "
             "linear, 0 outside of x. Group g owns entries [27 g, 27 g + 27) of offset_mask for a 3 x 3 window: 18 "
             "offsets, (width, height) of each tap, then 9 masks, taps along the height first; entries past the last "
             "group's are not read.",
      .check = [](const CallOf<kDeformable>& c) { check_deformable(c); },
      .reference = scalar_deformable,
      .cpu = vector_deformable,
  });
  registry.define<kDeformableBackward>({
      .doc = "Derivative of deformable_sample. Of a position between elements it is that of the line through both; of "
             "one on an element that towards the next one. Entries past the last group's get 0.",
      .check = check_deformable_backward,
      .reference = scalar_deformable_backward,
      .cpu = vector_deformable_backward,
  });
}

}  // namespace mambasdk
