#include "nifti_processors.hpp"

#include <utility>

#include "nifti.hpp"

namespace mambasdk::medical {

namespace {

template <class T>
std::vector<T> narrowed(std::span<const std::int32_t> values) {
  std::vector<T> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::in_range<T>(values[i]))
      plugin::invalid("nifti_file: array: " + std::to_string(values[i]) + " does not fit its type");
    out[i] = static_cast<T>(values[i]);
  }
  return out;
}

}  // namespace

NiftiReader::NiftiReader(const plugin::Config& config)
    : max_voxels_(config.integer("max_voxels", kMaxVoxels, 1, std::int64_t{1} << 40)) {}

void NiftiReader::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  if (inputs.size() != 1) plugin::invalid("nifti: expected one input, the bytes of a file");
  Nifti file = read_nifti(inputs[0].bytes(), max_voxels_, "nifti");
  const Shape& shape = file.volume.shape;
  const Spacing spacing = file.header.spacing();
  const auto header = file.header.bytes();
  emit("array", std::move(file.volume.values), {shape[0], shape[1], shape[2]});
  emit("spacing", std::vector<double>(spacing.begin(), spacing.end()), {3});
  emit("header", std::vector<std::uint8_t>(header.begin(), header.end()), {static_cast<std::int64_t>(kHeaderSize)});
}

NiftiWriter::NiftiWriter(const plugin::Config& config)
    : compress_(config.flag("compress", true)), type_(config.choice("type", {"uint16", "int16", "int32"})) {}

void NiftiWriter::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  const TensorView array = inputs["array"];
  const auto extents = array.shape();
  if (extents.size() != 2 && extents.size() != 3) {
    plugin::invalid("nifti_file: array: expected (D, H, W) or (H, W), got " + plugin::to_text(extents));
  }
  const Shape shape =
      extents.size() == 3 ? Shape{extents[0], extents[1], extents[2]} : Shape{1, extents[0], extents[1]};
  NiftiHeader header;
  if (inputs.has("header")) {
    header = NiftiHeader::parse(inputs["header"].data<std::uint8_t>());
  } else {
    const auto mm = inputs["spacing"].data<double>();
    if (mm.size() != 3)
      plugin::invalid("nifti_file: spacing: expected (3), got " + std::to_string(mm.size()) + " numbers");
    const auto affine = inputs.has("affine") ? inputs["affine"].data<double>() : std::span<const double>();
    if (!affine.empty() && affine.size() != 12) plugin::invalid("nifti_file: affine: expected (3, 4)");
    header = NiftiHeader(shape, {mm[0], mm[1], mm[2]}, affine);
  }
  const mambasdk_dtype type = array.get().dtype;
  std::vector<std::uint8_t> file;
  if (type.code == 1 && type.bits == 8) {
    file = write_nifti(header, shape, array.data<std::uint8_t>(), compress_);
  } else if (type.code == 2 && type.bits == 32) {
    file = write_nifti(header, shape, array.data<float>(), compress_);
  } else if (type.code != 0 || type.bits != 32) {
    plugin::invalid("nifti_file: array: expected u8, i32 or f32");
  } else if (const auto values = array.data<std::int32_t>(); type_ == "int16") {
    file = write_nifti<std::int16_t>(header, shape, narrowed<std::int16_t>(values), compress_);
  } else if (type_ == "uint16") {
    file = write_nifti<std::uint16_t>(header, shape, narrowed<std::uint16_t>(values), compress_);
  } else {
    file = write_nifti(header, shape, values, compress_);
  }
  const auto size = static_cast<std::int64_t>(file.size());
  emit("file", std::move(file), {size});
}

}  // namespace mambasdk::medical
