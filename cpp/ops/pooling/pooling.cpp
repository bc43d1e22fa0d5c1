#include "ops/pooling/pooling.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/element.hpp"
#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/channel_last.hpp"
#include "ops/pooling/pooling_args.hpp"
#include "ops/pooling/windows.hpp"

namespace mambasdk {
namespace pooling {
namespace {

constexpr Declaration kMax =
    "max_pool(x: T[B,D,H,W,C], kernel_d: int, kernel_h: int, kernel_w: int, stride_d: int, stride_h: int, "
    "stride_w: int, padding_d: int = 0, padding_h: int = 0, padding_w: int = 0, padding_after_d: int = 0, "
    "padding_after_h: int = 0, padding_after_w: int = 0, dilation_d: int = 1, dilation_h: int = 1, "
    "dilation_w: int = 1) -> (y: T[B,(D+padding_d+padding_after_d-dilation_d*(kernel_d-1)-1)//stride_d+1,"
    "(H+padding_h+padding_after_h-dilation_h*(kernel_h-1)-1)//stride_h+1,"
    "(W+padding_w+padding_after_w-dilation_w*(kernel_w-1)-1)//stride_w+1,C])";
constexpr Declaration kAverage =
    "average_pool(x: T[B,D,H,W,C], kernel_d: int, kernel_h: int, kernel_w: int, stride_d: int, stride_h: int, "
    "stride_w: int, padding_d: int = 0, padding_h: int = 0, padding_w: int = 0, padding_after_d: int = 0, "
    "padding_after_h: int = 0, padding_after_w: int = 0, count_padding: bool = true, divisor: int = 0) "
    "-> (y: T[B,(D+padding_d+padding_after_d-kernel_d)//stride_d+1,"
    "(H+padding_h+padding_after_h-kernel_h)//stride_h+1,(W+padding_w+padding_after_w-kernel_w)//stride_w+1,C])";
constexpr std::string_view kAdaptive =
    "(x: T[B,D,H,W,C], depth: int, height: int, width: int) -> (y: T[B,depth,height,width,C])";
constexpr Declaration kAdaptiveMax("adaptive_max_pool", kAdaptive);
constexpr Declaration kAdaptiveAverage("adaptive_average_pool", kAdaptive);

constexpr const char* kAxisNames[3] = {"d", "h", "w"};
constexpr const char* kAxes[3] = {"depth", "height", "width"};

// The windows of a call, for depth, height and width.
struct Pooling {
  std::array<std::vector<Window>, 3> windows{};
  std::array<std::int64_t, 3> step{1, 1, 1};
  bool is_max = false;
  double divisor = 0.0;
};

template <const Declaration& kPool>
std::array<Slide, 3> slides(const CallOf<kPool>& c) {
  std::array<Slide, 3> out{{{c.template dim<"D">(), c.template integer<"kernel_d">(), c.template integer<"stride_d">(),
                             c.template integer<"padding_d">(), c.template integer<"padding_after_d">(), 1},
                            {c.template dim<"H">(), c.template integer<"kernel_h">(), c.template integer<"stride_h">(),
                             c.template integer<"padding_h">(), c.template integer<"padding_after_h">(), 1},
                            {c.template dim<"W">(), c.template integer<"kernel_w">(), c.template integer<"stride_w">(),
                             c.template integer<"padding_w">(), c.template integer<"padding_after_w">(), 1}}};
  if constexpr (kPool.input("dilation_d") >= 0) {
    out[0].dilation = c.template integer<"dilation_d">();
    out[1].dilation = c.template integer<"dilation_h">();
    out[2].dilation = c.template integer<"dilation_w">();
  }
  return out;
}

Pooling pooling_of(const CallOf<kMax>& c) {
  Pooling p{.is_max = true};
  const auto slide = slides(c);
  for (std::size_t a = 0; a < 3; ++a) {
    p.windows[a] = sliding(slide[a], c.output<"y">().size(static_cast<int>(a) + 1), false);
    p.step[a] = slide[a].dilation;
  }
  return p;
}

Pooling pooling_of(const CallOf<kAverage>& c) {
  Pooling p{.divisor = static_cast<double>(c.integer<"divisor">())};
  const auto slide = slides(c);
  for (std::size_t a = 0; a < 3; ++a)
    p.windows[a] = sliding(slide[a], c.output<"y">().size(static_cast<int>(a) + 1), c.flag<"count_padding">());
  return p;
}

template <const Declaration& kPool>
Pooling pooling_of(const CallOf<kPool>& c) {
  Pooling p{.is_max = &kPool == &kAdaptiveMax};
  const Tensor &x = c.template tensor<"x">(), &y = c.template output<"y">();
  for (std::size_t a = 0; a < 3; ++a) {
    const int d = static_cast<int>(a) + 1;
    p.windows[a] = adaptive(x.size(d), y.size(d));
  }
  return p;
}

// ---- checks ----

template <const Declaration& kPool>
void check_slides(const CallOf<kPool>& c) {
  const auto slide = slides(c);
  for (std::size_t a = 0; a < 3; ++a) {
    const Slide& s = slide[a];
    const auto at_least_one = [&](const char* name, std::int64_t value) {
      if (value >= 1) return;
      fail(ErrorCode::invalid_argument, c.operation(), ": ", name, kAxisNames[a], " is ", value,
           ", expected at least 1");
    };
    at_least_one("kernel_", s.kernel);
    at_least_one("dilation_", s.dilation);
    const std::int64_t reach = (Extent(s.kernel) - 1).value() * s.dilation + 1;  // the extent of y was computed of it
    const std::int64_t extent = (Extent(s.size) + s.before + s.after).value();
    if (reach > extent) {
      fail(ErrorCode::invalid_argument, c.operation(), ": kernel_", kAxisNames[a], " reaches over ", reach,
           ", expected at most ", extent, ", the ", kAxes[a], " of x with its padding");
    }
  }
}

// The largest of nothing is no number of x.
template <const Declaration& kPool>
void check_elements(const CallOf<kPool>& c) {
  if (c.template output<"y">().numel() == 0) return;
  const Pooling p = pooling_of(c);
  for (std::size_t a = 0; a < 3; ++a) {
    for (std::size_t i = 0; i < p.windows[a].size(); ++i) {
      if (p.windows[a][i].count > 0) continue;
      fail(ErrorCode::invalid_argument, c.operation(), ": window ", i, " along the ", kAxes[a],
           " holds nothing of x, expected at least one of its ",
           c.template tensor<"x">().size(static_cast<int>(a) + 1));
    }
  }
}

void check_max(const CallOf<kMax>& c) {
  check_slides(c);
  check_elements(c);
}

void check_average(const CallOf<kAverage>& c) {
  check_slides(c);
  if (c.integer<"divisor">() < 0) {
    fail(ErrorCode::invalid_argument, c.operation(), ": divisor is ", c.integer<"divisor">(),
         ", expected a positive number, or 0 for the window's size");
  }
}

// ---- kernels ----

template <const Declaration& kPool>
void reference(const CallOf<kPool>& c) {
  const Pooling p = pooling_of(c);
  const Tensor &x = c.template tensor<"x">(), &y = c.template output<"y">();
  std::int64_t to = 0;
  for (std::int64_t b = 0; b < x.size(0); ++b) {
    for (const Window& d : p.windows[0]) {
      for (const Window& h : p.windows[1]) {
        for (const Window& w : p.windows[2]) {
          const std::int64_t first =
              b * x.stride(0) + d.first * x.stride(1) + h.first * x.stride(2) + w.first * x.stride(3);
          const double count = d.divisor * h.divisor * w.divisor;
          const double divisor = p.divisor != 0.0 ? p.divisor : count > 0.0 ? count : 1.0;
          for (std::int64_t channel = 0; channel < x.size(4); ++channel, ++to) {
            double joined = p.is_max ? -std::numeric_limits<double>::infinity() : 0.0;
            for (std::int64_t i = 0; i < d.count; ++i) {
              for (std::int64_t j = 0; j < h.count; ++j) {
                for (std::int64_t k = 0; k < w.count; ++k) {
                  const std::int64_t at = first + i * p.step[0] * x.stride(1) + j * p.step[1] * x.stride(2) +
                                          k * p.step[2] * x.stride(3) + channel * x.stride(4);
                  const double v = load_element(x.data, x.dtype, at);
                  if (!p.is_max) {
                    joined += v;
                  } else if (v > joined || std::isnan(v)) {
                    joined = v;
                  }
                }
              }
            }
            store_element(y.data, y.dtype, to, p.is_max ? joined : joined / divisor);
          }
        }
      }
    }
  }
}

// Tasks enough for all threads where there are few rows, and columns enough in a task's buffer.
std::int64_t block_channels(const Tensor& y) {
  constexpr std::int64_t kFewRows = 16, kMost = 128;
  const std::int64_t channels = y.size(4), rows = y.size(0) * y.size(1) * y.size(2);
  if (rows < kFewRows) return std::clamp<std::int64_t>((channels / 8 + 15) / 16 * 16, 32, kMost);
  const std::int64_t blocks = (channels + kMost - 1) / kMost;
  return blocks <= 1 ? channels : ((channels + blocks - 1) / blocks + 15) / 16 * 16;
}

template <const Declaration& kPool>
void vector(const CallOf<kPool>& c) {
  const Pooling p = pooling_of(c);
  Context::Workspace copy{nullptr, {}};
  const Tensor& y = c.template output<"y">();
  Args a{.x = map_of(channel_last(c.template tensor<"x">(), c.context(), copy)),
         .is_max = p.is_max,
         .divisor = p.divisor,
         .block_channels = std::min(block_channels(y), y.size(4)),
         .y = y.data};
  for (std::size_t i = 0; i < 3; ++i)
    a.axis[i] = {p.windows[i].data(), static_cast<std::int64_t>(p.windows[i].size()), p.step[i]};
  MAMBASDK_PICK(pool)(a, c.context().parallel());
}

constexpr std::string_view kNotDifferentiable = " For inference: it has no derivative.";

template <const Declaration& kPool>
void define(Registry& registry, std::string_view doc, void (*check)(const CallOf<kPool>&)) {
  registry.define<kPool>({.doc = std::string(doc).append(kNotDifferentiable),
                          .check = check,
                          .reference = reference<kPool>,
                          .cpu = vector<kPool>});
}

}  // namespace
}  // namespace pooling

void register_pooling(Registry& registry) {
  using namespace pooling;
  define<kMax>(registry,
               "The largest element of each window, channel by channel, of x with padding before and after it that "
               "holds nothing; NaN where the window has one. More padding_after than padding is torch's ceil_mode. "
               "Every window must hold an element of x.",
               check_max);
  define<kAverage>(registry,
                   "The sum over each window divided by `divisor`, or where that is 0 by the elements in the window. "
                   "With count_padding those of the padding count too: padding before x, and as many positions after "
                   "it; padding_after beyond that, which is torch's ceil_mode, counts for nothing. 0 where nothing "
                   "counts.",
                   check_average);
  define<kAdaptiveMax>(registry,
                       "The largest element of each of depth x height x width windows: window i of n over an extent S "
                       "is [floor(i S / n), ceil((i + 1) S / n)).",
                       check_elements<kAdaptiveMax>);
  define<kAdaptiveAverage>(registry,
                           "The mean over each of depth x height x width windows: window i of n over an extent S is "
                           "[floor(i S / n), ceil((i + 1) S / n)).",
                           nullptr);
}

}  // namespace mambasdk
