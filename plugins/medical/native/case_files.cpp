#include "case_files.hpp"

#include <algorithm>
#include <cmath>

#include "mambasdk/plugin/json.hpp"
#include "nifti.hpp"
#include "png.hpp"

namespace mambasdk::medical {

namespace {

constexpr Spacing kNoSpacing{999, 1, 1};  // of a picture, as nnU-Net has it

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

void add_file(Case& found, const TensorView& input, const std::string& name, std::int64_t max_voxels) {
  const std::string_view bytes = input.bytes();
  Case file;
  if (is_png(bytes)) {
    file = {read_png(bytes, max_voxels, name), kNoSpacing, {}};
  } else if (is_nifti(bytes)) {
    Nifti nifti = read_nifti(bytes, max_voxels, name);
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
  (void)checked_count(extents, max_voxels, "medical_image: all channels");
  found.volume.channels += file.volume.channels;
  found.volume.values.insert(found.volume.values.end(), file.volume.values.begin(), file.volume.values.end());
}

Case read_array(const TensorView& input, const plugin::Inputs& inputs, const std::string& slot,
                std::int64_t max_voxels) {
  const auto extents = input.shape();
  if (extents.size() != 3 && extents.size() != 4) {
    bad(slot, "the bytes of a file, f32 (C, D, H, W) or (C, H, W)", plugin::to_text(extents));
  }
  if (*std::min_element(extents.begin(), extents.end()) < 1) bad(slot, "voxels", plugin::to_text(extents));
  (void)checked_count(extents, max_voxels, "medical_image: " + slot);
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

}  // namespace

Case read_case(const plugin::Inputs& inputs, std::int64_t max_voxels) {
  std::string slot;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].name().find('.') == std::string_view::npos) slot = inputs[i].name();
  }
  if (slot.empty()) plugin::invalid("medical_image: expected an input named as its slot, as `image`");
  const TensorView first = inputs[slot];
  if (first.get().dtype.code == 2) return read_array(first, inputs, slot, max_voxels);
  Case found;
  add_file(found, first, slot, max_voxels);
  for (std::size_t c = 1; inputs.has(slot + "." + std::to_string(c)); ++c) {
    const std::string name = slot + "." + std::to_string(c);
    add_file(found, inputs[name], name, max_voxels);
  }
  return found;
}

}  // namespace mambasdk::medical
