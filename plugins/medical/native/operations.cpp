#include "operations.hpp"

#include <algorithm>
#include <string>

#include "normalise.hpp"
#include "resample.hpp"
#include "tiles.hpp"

namespace mambasdk::medical {

namespace {

// The elements of an input, row-major: where they lie, or a copy of strided ones.
template <class T>
class Dense {
 public:
  explicit Dense(const TensorView& view) {
    if (view.is_contiguous()) {
      values_ = view.data<T>();
      return;
    }
    const mambasdk_tensor& t = view.get();
    const auto* base = reinterpret_cast<const T*>(static_cast<const char*>(t.data) + t.byte_offset);
    std::vector<std::int64_t> index(static_cast<std::size_t>(t.ndim), 0);
    copy_.resize(view.size());
    for (T& value : copy_) {
      std::int64_t offset = 0;
      for (std::size_t d = 0; d < index.size(); ++d) offset += index[d] * t.strides[d];
      value = base[offset];
      for (std::size_t d = index.size(); d-- > 0 && ++index[d] == t.shape[d];) index[d] = 0;
    }
    values_ = copy_;
  }
  [[nodiscard]] std::span<const T> operator*() const { return values_; }

 private:
  std::vector<T> copy_;
  std::span<const T> values_;
};

Shape shape_of(const TensorView& view) {
  const auto shape = view.shape().last<3>();
  return {shape[0], shape[1], shape[2]};
}

void check_extents(const Shape& shape, const char* what) {
  if (*std::min_element(shape.begin(), shape.end()) >= 1) return;
  plugin::invalid(std::string(what) + ": expected extents of 1 or more, got " + plugin::to_text(shape));
}

void check_order(std::int64_t order, const char* name) {
  if (order == 0 || order == 1 || order == 3) return;
  plugin::invalid(std::string("volume_resample: ") + name + ": expected 0 (nearest), 1 (linear) or 3 (cubic), got " +
                  std::to_string(order));
}

template <class Array, class T>
Array three(const Dense<T>& values) {
  Array out{};
  std::copy_n((*values).begin(), 3, out.begin());
  return out;
}

}  // namespace

void VolumeResample::check(const plugin::CallOf<VolumeResample>& call) {
  check_extents(shape_of(call.input<"x">()), "volume_resample: x");
  check_extents({call.integer<"depth">(), call.integer<"height">(), call.integer<"width">()},
                "volume_resample: the new size");
  check_order(call.integer<"order">(), "order");
  const std::int64_t axis = call.integer<"axis">();
  if (axis < -1 || axis > 2) {
    plugin::invalid("volume_resample: axis: expected 0, 1 or 2 (depth, height, width), or -1 for none, got " +
                    std::to_string(axis));
  }
  if (axis >= 0) check_order(call.integer<"axis_order">(), "axis_order");
}

void VolumeResample::reference(const plugin::CallOf<VolumeResample>& call) {
  const TensorView x = call.input<"x">();
  const Shape to{call.integer<"depth">(), call.integer<"height">(), call.integer<"width">()};
  const Resampling how{static_cast<int>(call.integer<"order">()), static_cast<int>(call.integer<"axis">()),
                       static_cast<int>(call.integer<"axis_order">()), call.flag<"clip">()};
  resample(call.context(), *Dense<float>(x), call.dim<"C">(), shape_of(x), to, how, call.output<"y", float>());
}

void VolumeNormalise::reference(const plugin::CallOf<VolumeNormalise>& call) {
  const std::int64_t scheme = call.integer<"scheme">();
  if (scheme < 0 || scheme > static_cast<std::int64_t>(Scheme::rgb)) {
    plugin::invalid("volume_normalise: scheme: expected 0 to 5, got " + std::to_string(scheme));
  }
  const Intensity intensity{call.number<"mean">(), call.number<"std">(), call.number<"lower">(),
                            call.number<"upper">()};
  const Dense<float> x(call.input<"x">());
  const auto y = call.output<"y", float>();
  std::copy((*x).begin(), (*x).end(), y.begin());
  if (!call.has<"mask">()) return normalise(call.context(), y, static_cast<Scheme>(scheme), intensity, {});
  normalise(call.context(), y, static_cast<Scheme>(scheme), intensity, *Dense<std::uint8_t>(call.input<"mask">()));
}

void VolumeNonzero::reference(const plugin::CallOf<VolumeNonzero>& call) {
  const TensorView x = call.input<"x">();
  const Shape shape = shape_of(x);
  check_extents(shape, "volume_nonzero: x");
  (void)checked_count(shape, INT32_MAX, "volume_nonzero: x");
  auto mask = nonzero_mask(call.context(), *Dense<float>(x), call.dim<"C">(), shape);
  const Box box = box_of(mask, shape);
  if (call.flag<"fill">()) fill_holes(mask, shape);
  std::copy(mask.begin(), mask.end(), call.output<"mask", std::uint8_t>().begin());
  const auto out = call.output<"box", std::int64_t>();
  for (std::size_t a = 0; a < 3; ++a) out[2 * a] = box.begin[a], out[2 * a + 1] = box.end[a];
}

void ResampledGrid::reference(const plugin::CallOf<ResampledGrid>& call) {
  const auto current = three<Spacing>(Dense<double>(call.input<"current">()));
  const auto target = three<Spacing>(Dense<double>(call.input<"target">()));
  const Shape size = resampled_shape(three<Shape>(Dense<std::int64_t>(call.input<"shape">())), current, target);
  std::copy(size.begin(), size.end(), call.output<"size", std::int64_t>().begin());
  call.output<"axis", std::int64_t>()[0] = separate_axis(current, target, call.number<"threshold">());
}

void TileStarts::reference(const plugin::CallOf<TileStarts>& call) {
  const auto starts = tile_starts(call.integer<"size">(), call.integer<"tile">(), call.number<"step">());
  const auto out = call.output<"starts", std::int64_t>();
  std::fill(std::copy(starts.begin(), starts.end(), out.begin()), out.end(), -1);
}

void GaussianMap::reference(const plugin::CallOf<GaussianMap>& call) {
  const Shape tile{call.integer<"depth">(), call.integer<"height">(), call.integer<"width">()};
  check_extents(tile, "gaussian_map: the tile");
  const double sigma = call.number<"sigma_scale">();
  if (!(sigma > 0 && sigma < 1e3)) plugin::invalid("gaussian_map: sigma_scale: expected a positive number");
  const auto map = gaussian_map(tile, sigma);
  std::copy(map.begin(), map.end(), call.output<"weights", float>().begin());
}

}  // namespace mambasdk::medical
