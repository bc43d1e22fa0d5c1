#include "medical_image.hpp"

#include <algorithm>
#include <cmath>

#include "options.hpp"
#include "png.hpp"
#include "transposed.hpp"

namespace mambasdk::medical {

namespace {

constexpr std::string_view kOptions[] = {"channels",   "normalization", "mean",      "std",  "lower",
                                         "upper",      "spacing",       "transpose", "crop", "order",
                                         "axis_order", "anisotropy",    "max_voxels"};
constexpr Spacing kNoSpacing{999, 1, 1};  // of a picture, as nnU-Net has it
constexpr std::size_t kMostChannels = 1024;

[[noreturn]] void bad(const std::string& what, const std::string& expected, const std::string& got) {
  plugin::invalid("medical_image: " + what + ": expected " + expected + ", got " + got);
}

std::string to_text(const Spacing& spacing) {
  std::string text;
  for (const double mm : spacing) text += (text.empty() ? "" : " x ") + nlohmann::json(mm).dump();
  return text + " mm";
}

// Headers hold spacing in float32, and tools round it.
bool same(const Spacing& a, const Spacing& b) {
  constexpr double kRelative = 1e-3;
  return std::equal(a.begin(), a.end(), b.begin(), [](double x, double y) {
    return std::abs(x - y) <= kRelative * std::max(std::abs(x), std::abs(y));
  });
}

int order_of(const plugin::Config& config, const char* name, std::int64_t otherwise) {
  const std::int64_t order = config.integer(name, otherwise, 0, 3);
  if (order == 2) bad(name, "0 (nearest), 1 (linear) or 3 (cubic)", "2");
  return static_cast<int>(order);
}

// The numbers of an option that is a number or a list of any length.
std::vector<double> numbers(const plugin::Config& config, const ListSizes& sizes, const char* name, double least) {
  const auto size = sizes.find(name);
  const std::size_t count = size == sizes.end() ? 1 : size->second;
  return config.has(name) ? config.numbers(name, std::vector<double>(count), least, 1e9) : std::vector<double>();
}

// That of channel c in a list of one for each, or for all.
template <class T>
T of_channel(const std::vector<T>& list, std::size_t c, const char* name, T otherwise) {
  if (list.empty()) return otherwise;
  if (list.size() == 1) return list[0];
  if (c >= list.size()) bad(name, "one for each channel", std::to_string(list.size()) + " for more channels");
  return list[c];
}

// (C, *from) with its axes in another order.
void transpose(Volume& volume, const std::array<std::size_t, 3>& order) {
  if (order == std::array<std::size_t, 3>{0, 1, 2}) return;
  const Transposed view(volume.shape, order);
  std::vector<float> out(volume.values.size());
  const std::size_t size = count_of(volume.shape);
  for (std::size_t c = 0; c < static_cast<std::size_t>(volume.channels); ++c) {
    std::size_t i = c * size;
    view.for_each([&](std::size_t from) { out[i++] = volume.values[c * size + from]; });
  }
  volume.values = std::move(out);
  volume.shape = view.shape();
}

// In place: what is left lies before what is read.
void crop(Volume& volume, const Box& box) {
  const Shape from = volume.shape, to = box.shape();
  if (from == to) return;
  auto out = volume.values.begin();
  for (std::int64_t c = 0; c < volume.channels; ++c) {
    for (std::int64_t z = box.begin[0]; z < box.end[0]; ++z) {
      for (std::int64_t y = box.begin[1]; y < box.end[1]; ++y) {
        const auto row = volume.values.begin() + ((c * from[0] + z) * from[1] + y) * from[2] + box.begin[2];
        out = std::copy(row, row + to[2], out);
      }
    }
  }
  volume.values.erase(out, volume.values.end());
  volume.shape = to;
}

std::vector<std::uint8_t> crop(const std::vector<std::uint8_t>& mask, const Shape& shape, const Box& box) {
  std::vector<std::uint8_t> out;
  for (std::int64_t z = box.begin[0]; z < box.end[0]; ++z) {
    for (std::int64_t y = box.begin[1]; y < box.end[1]; ++y) {
      const auto row = mask.begin() + (z * shape[1] + y) * shape[2];
      out.insert(out.end(), row + box.begin[2], row + box.end[2]);
    }
  }
  return out;
}

}  // namespace

MedicalImage::MedicalImage(std::string_view text, std::string_view) {
  ListSizes sizes;
  const plugin::Config config(without_empty_lists(text, kind, sizes), kind, kOptions);
  channels_ = config.integer("channels", 1, 1, kMostChannels);
  for (const std::string& name : config.strings("normalization")) {
    const auto scheme = scheme_of(name);
    if (!scheme)
      bad("normalization", "ct, zscore, zscore_masked, none, rescale or rgb", plugin::quoted(std::string_view(name)));
    schemes_.push_back(*scheme);
  }
  const auto mean = numbers(config, sizes, "mean", -1e9), std = numbers(config, sizes, "std", 0),
             lower = numbers(config, sizes, "lower", -1e9), upper = numbers(config, sizes, "upper", -1e9);
  const std::size_t most =
      std::max({schemes_.size(), mean.size(), std.size(), lower.size(), upper.size(), std::size_t{1}});
  for (std::size_t c = 0; c < most; ++c) {
    if (of_channel(schemes_, c, "normalization", Scheme::zscore) == Scheme::ct) {
      for (const auto* list : {&mean, &std, &lower, &upper}) {
        if (list->empty()) bad("mean, std, lower and upper", "all of them for ct", "one that is not given");
      }
    }
    intensities_.push_back({of_channel(mean, c, "mean", 0.0), of_channel(std, c, "std", 1.0),
                            of_channel(lower, c, "lower", 0.0), of_channel(upper, c, "upper", 0.0)});
  }
  spacing_ = numbers(config, sizes, "spacing", 1e-6);
  if (spacing_.size() == 1 || spacing_.size() > 3)
    bad("spacing", "two or three numbers", std::to_string(spacing_.size()));
  const auto order = config.integers("transpose", {0, 1, 2}, 0, 2);
  std::array<bool, 3> seen{};
  for (std::size_t a = 0; a < 3; ++a) {
    transpose_[a] = static_cast<std::size_t>(order[a]);
    if (std::exchange(seen[transpose_[a]], true)) bad("transpose", "each of 0, 1 and 2", plugin::to_text(order));
  }
  crop_ = config.flag("crop", true);
  how_.order = order_of(config, "order", 3);
  how_.axis_order = order_of(config, "axis_order", 0);
  anisotropy_ = config.number("anisotropy", 3, 1, 1e9);
  max_voxels_ = config.integer("max_voxels", std::int64_t{1} << 29, 1, INT32_MAX);
}

void MedicalImage::add_file(Case& found, const TensorView& input, const std::string& name) const {
  const std::string_view bytes = input.bytes();
  Case file;
  if (is_png(bytes)) {
    file = {read_png(bytes, max_voxels_, name), kNoSpacing, {}};
  } else if (is_nifti(bytes)) {
    Nifti nifti = read_nifti(bytes, max_voxels_, name);
    const auto header = nifti.header.bytes();
    file = {std::move(nifti.volume), nifti.header.spacing(), {header.begin(), header.end()}};
  } else {
    throw Error(MAMBASDK_ERROR_UNSUPPORTED, name,
                name + ": these " + std::to_string(bytes.size()) +
                    " bytes are neither NIfTI-1 (.nii, .nii.gz) nor PNG; convert the file, or give an array");
  }
  if (found.volume.channels == 0) {
    found = std::move(file);
    return;
  }
  if (file.volume.shape != found.volume.shape) {
    bad(name + ": the shape", plugin::to_text(found.volume.shape) + ", that of the first channel",
        plugin::to_text(file.volume.shape));
  }
  if (!same(file.spacing, found.spacing)) {
    bad(name + ": the spacing", to_text(found.spacing) + ", that of the first channel", to_text(file.spacing));
  }
  const std::int64_t extents[] = {found.volume.channels + file.volume.channels, file.volume.shape[0],
                                  file.volume.shape[1], file.volume.shape[2]};
  (void)checked_count(extents, max_voxels_, "medical_image: all channels");
  found.volume.channels += file.volume.channels;
  found.volume.values.insert(found.volume.values.end(), file.volume.values.begin(), file.volume.values.end());
}

MedicalImage::Case MedicalImage::read_array(const TensorView& input, const plugin::Inputs& inputs,
                                            const std::string& slot) const {
  const auto extents = input.shape();
  if (extents.size() != 3 && extents.size() != 4) {
    bad(slot, "the bytes of a file, f32 (C, D, H, W) or (C, H, W)", plugin::to_text(extents));
  }
  if (*std::min_element(extents.begin(), extents.end()) < 1) bad(slot, "voxels", plugin::to_text(extents));
  (void)checked_count(extents, max_voxels_, "medical_image: " + slot);
  const auto values = input.data<float>();
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
    bad(slot, "finite numbers", "others among them");
  }
  const bool deep = extents.size() == 4;
  Case found{{extents[0], {deep ? extents[1] : 1, extents[extents.size() - 2], extents.back()}, {}}, kNoSpacing, {}};
  found.volume.values.assign(values.begin(), values.end());
  if (inputs.has(slot + ".spacing")) {
    const auto mm = inputs[slot + ".spacing"].data<double>();
    if (mm.size() != 3 || !std::all_of(mm.begin(), mm.end(), [](double v) { return v > 0 && std::isfinite(v); })) {
      bad(slot + ".spacing", "three positive numbers", plugin::to_text(inputs[slot + ".spacing"].shape()));
    }
    std::copy(mm.begin(), mm.end(), found.spacing.begin());
  }
  return found;
}

MedicalImage::Case MedicalImage::read(const plugin::Inputs& inputs) const {
  std::string slot;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].name().find('.') == std::string_view::npos) slot = inputs[i].name();
  }
  if (slot.empty()) plugin::invalid("medical_image: expected an input named as its slot, as `image`");
  const TensorView first = inputs[slot];
  if (first.get().dtype.code == 2) return read_array(first, inputs, slot);
  Case found;
  add_file(found, first, slot);
  for (std::size_t c = 1; inputs.has(slot + "." + std::to_string(c)); ++c) {
    const std::string name = slot + "." + std::to_string(c);
    add_file(found, inputs[name], name);
  }
  return found;
}

void MedicalImage::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  const mambasdk_context& context = inputs.context();
  Case found = read(inputs);
  Volume& volume = found.volume;
  if (volume.channels != channels_) {
    bad("the image", std::to_string(channels_) + " channels, a file for each (image, image.1, ...)",
        std::to_string(volume.channels));
  }
  transpose(volume, transpose_);
  Spacing spacing{}, target{};
  for (std::size_t a = 0; a < 3; ++a) spacing[a] = found.spacing[transpose_[a]];
  target = spacing;
  std::copy(spacing_.begin(), spacing_.end(), target.end() - static_cast<std::ptrdiff_t>(spacing_.size()));

  const Shape full = volume.shape;
  Box box{{}, full};
  std::vector<std::uint8_t> mask;
  const auto scheme = [&](std::size_t c) { return of_channel(schemes_, c, "normalization", Scheme::zscore); };
  bool masked = false;
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels_); ++c) masked |= scheme(c) == Scheme::zscore_masked;
  if (crop_ || masked) mask = nonzero_mask(context, volume.values, volume.channels, full);
  const bool empty = std::find(mask.begin(), mask.end(), 1) == mask.end();
  if (crop_) box = box_of(mask, full);
  if (masked && !empty) {
    fill_holes(mask, full);
    mask = crop(mask, full, box);
  } else {
    mask.clear();
  }
  crop(volume, box);
  const std::size_t size = count_of(volume.shape);
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels_); ++c) {
    normalise(context, std::span(volume.values).subspan(c * size, size), scheme(c),
              of_channel(intensities_, c, "mean, std, lower and upper", Intensity{}), mask);
  }
  mask = {};

  Resampling how = how_;
  how.axis = spacing_.size() == 2 ? 0 : separate_axis(spacing, target, anisotropy_);
  const Shape to = resampled_shape(volume.shape, spacing, target);
  if (to != volume.shape) {
    const std::int64_t extents[] = {volume.channels, to[0], to[1], to[2]};
    const auto count = checked_count(extents, max_voxels_, "medical_image: the resampled image");
    std::vector<float> out(static_cast<std::size_t>(count));
    resample(context, volume.values, volume.channels, volume.shape, to, how, out);
    volume.values = std::move(out);
    volume.shape = to;
  }

  std::vector<std::int64_t> ends, order;
  for (std::size_t a = 0; a < 3; ++a) {
    ends.insert(ends.end(), {box.begin[a], box.end[a]});
    order.push_back(static_cast<std::int64_t>(transpose_[a]));
  }
  emit("volume", std::move(volume.values), {volume.channels, to[0], to[1], to[2]});
  emit("volume.full_shape", std::vector<std::int64_t>(full.begin(), full.end()), {3});
  emit("volume.crop", std::move(ends), {3, 2});
  emit("volume.spacing", std::vector<double>(spacing.begin(), spacing.end()), {3});
  emit("volume.target_spacing", std::vector<double>(target.begin(), target.end()), {3});
  emit("volume.transpose", std::move(order), {3});
  const int back = spacing_.size() == 2 ? 0 : separate_axis(target, spacing, anisotropy_);
  emit("volume.axis", std::vector<std::int64_t>{back}, {1});
  emit("volume.axis_order", std::vector<std::int64_t>{how.axis_order}, {1});
  const auto header_size = static_cast<std::int64_t>(found.header.size());
  emit("volume.header", std::move(found.header), {header_size});
}

}  // namespace mambasdk::medical
