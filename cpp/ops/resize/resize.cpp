#include "ops/resize/resize.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/element.hpp"
#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/channel_last.hpp"
#include "ops/resize/resize_args.hpp"
#include "ops/resize/taps.hpp"

namespace mambasdk {
namespace resize {
namespace {

constexpr Declaration kResize =
    "resize(x: T[B,D,H,W,C], depth: int, height: int, width: int, mode: int = 0, align_corners: bool = false, "
    "scale_d: float = 0, scale_h: float = 0, scale_w: float = 0) -> (y: T[B,depth,height,width,C])";
using Call = CallOf<kResize>;

void check(const Call& c) {
  const std::int64_t mode = c.integer<"mode">();
  if (mode < 0 || mode >= kModes) {
    fail(ErrorCode::invalid_argument, c.operation(), ": mode is ", mode,
         ", expected 0 (nearest), 1 (nearest-exact), 2 (linear) or 3 (cubic)");
  }
  const auto scale = [&](const char* name, double value) {
    if (std::isfinite(value) && value >= 0.0) return;
    fail(ErrorCode::invalid_argument, c.operation(), ": ", name, " is ", value,
         ", expected a positive number, or 0 for the ratio of the extents");
  };
  scale("scale_d", c.number<"scale_d">());
  scale("scale_h", c.number<"scale_h">());
  scale("scale_w", c.number<"scale_w">());
  const Tensor &x = c.tensor<"x">(), &y = c.output<"y">();
  if (mode == static_cast<std::int64_t>(Mode::cubic) && (x.size(1) != 1 || y.size(1) != 1)) {
    fail(ErrorCode::invalid_argument, c.operation(), ": mode is cubic and x is ", x.shape_text(), ", depth ", y.size(1),
         ", expected both depths to be 1");
  }
  if (y.numel() > 0 && x.numel() == 0) {
    fail(ErrorCode::invalid_argument, c.operation(), ": x is ", x.shape_text(), ", expected an element to interpolate");
  }
}

std::array<std::vector<Taps>, 3> taps_of(const Call& c) {
  const Rule rule{static_cast<Mode>(c.integer<"mode">()), c.flag<"align_corners">()};
  const double scale[3] = {c.number<"scale_d">(), c.number<"scale_h">(), c.number<"scale_w">()};
  const Tensor &x = c.tensor<"x">(), &y = c.output<"y">();
  std::array<std::vector<Taps>, 3> taps;
  for (int a = 0; a < 3; ++a)
    taps[static_cast<std::size_t>(a)] = resize::taps_of(rule, x.size(a + 1), y.size(a + 1), scale[a]);
  return taps;
}

void reference(const Call& c) {
  const auto taps = taps_of(c);
  const Tensor &x = c.tensor<"x">(), &y = c.output<"y">();
  std::int64_t to = 0;
  for (std::int64_t b = 0; b < x.size(0); ++b) {
    for (const Taps& d : taps[0]) {
      for (const Taps& h : taps[1]) {
        for (const Taps& w : taps[2]) {
          for (std::int64_t channel = 0; channel < x.size(4); ++channel, ++to) {
            double sum = 0.0;
            for (int i = 0; i < d.count; ++i) {
              for (int j = 0; j < h.count; ++j) {
                for (int k = 0; k < w.count; ++k) {
                  const std::int64_t at = b * x.stride(0) + d.index[i] * x.stride(1) + h.index[j] * x.stride(2) +
                                          w.index[k] * x.stride(3) + channel * x.stride(4);
                  sum += d.weight[i] * h.weight[j] * w.weight[k] * load_element(x.data, x.dtype, at);
                }
              }
            }
            store_element(y.data, y.dtype, to, sum);
          }
        }
      }
    }
  }
}

// Rows enough to pay for the table.
Narrow narrow_of(const Call& c, int most, Context::Workspace& scratch) {
  const Tensor& y = c.output<"y">();
  if (y.size(4) >= kNarrowChannels || y.size(0) * y.size(1) * y.size(2) < 8) return {};
  Narrow out{.taps = most == 3 ? 4 : most, .lanes = (Extent(y.size(3)) * y.size(4)).rounded_up(16).value()};
  const Extent table = Extent(out.lanes) * out.taps * sizeof(float),
               bases = Extent(out.lanes / 4) * sizeof(out.base[0]);
  scratch = c.context().workspace((bases + table * 2).bytes());
  out.base = reinterpret_cast<std::int64_t*>(scratch.get());
  out.place = reinterpret_cast<std::int32_t*>(scratch.get() + bases.bytes());
  out.weight = reinterpret_cast<float*>(scratch.get() + (bases + table).bytes());
  return out;
}

void vector(const Call& c) {
  const auto taps = taps_of(c);
  Context::Workspace copy{nullptr, {}}, scratch{nullptr, {}};
  Args a{.x = map_of(channel_last(c.tensor<"x">(), c.context(), copy)), .y = c.output<"y">().data};
  for (std::size_t i = 0; i < 3; ++i) a.axis[i] = {taps[i].data(), static_cast<std::int64_t>(taps[i].size())};
  for (const Taps& column : taps[2]) a.most_taps = std::max(a.most_taps, column.count);
  a.narrow = narrow_of(c, a.most_taps, scratch);
  if (c.integer<"mode">() < static_cast<std::int64_t>(Mode::linear) && a.narrow.taps == 0) {
    MAMBASDK_PICK(resize_nearest)(a, c.context().parallel());
  } else {
    MAMBASDK_PICK(resize_weighted)(a, c.context().parallel());
  }
}

}  // namespace
}  // namespace resize

void register_resize(Registry& registry) {
  using namespace resize;
  registry.define<kResize>({
      .doc = "x at depth x height x width positions, as torch.nn.functional.interpolate: mode 0 is nearest, 1 "
             "nearest-exact, 2 linear (bilinear and trilinear too), 3 cubic, which is for depths of 1. A scale above 0 "
             "stands for the ratio of the extents, as a scale factor does there; not where a "
             "linear axis keeps its extent, or a nearest one keeps or doubles it (torch's 1-D and 3-D nearest take the "
             "factor even there). Weights are computed in float64, "
             "nearest positions in float32 as torch's are; a position of weight 0 is not read. For inference: it has "
             "no derivative.",
      .check = check,
      .reference = reference,
      .cpu = vector,
  });
}

}  // namespace mambasdk
