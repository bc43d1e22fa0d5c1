#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <string_view>

#include "nifti.hpp"
#include "nifti_fields.hpp"

namespace mambasdk::medical {

using namespace nifti_fields;

namespace {

constexpr std::int64_t kMostExtent = 32767;

// Runs of numbers of more than a byte: offset, bytes of one, how many.
struct Run {
  std::size_t at, size, count;
};
constexpr Run kRuns[] = {{0, 4, 1},   {32, 4, 1},  {36, 2, 1},  {40, 2, 8},  {56, 4, 3},  {68, 2, 4},  {76, 4, 8},
                         {108, 4, 3}, {120, 2, 1}, {124, 4, 4}, {140, 4, 2}, {252, 2, 2}, {256, 4, 6}, {280, 4, 12}};

}  // namespace

NiftiHeader::NiftiHeader(const Shape& shape, const Spacing& spacing, std::span<const double> affine) {
  put_little<std::uint32_t>(bytes_.data(), kHeaderSize);
  set_shape(shape);
  set_real32(kPixdim, 1);
  for (std::size_t a = 0; a < 3; ++a) set_real32(kPixdim + 4 * (3 - a), spacing[a]);
  bytes_[kUnits] = 2;  // mm
  set_integer16(kSformCode, affine.empty() ? 0 : 2);
  for (std::size_t i = 0; i < affine.size(); ++i) set_real32(kSrow + 4 * i, affine[i]);
}

NiftiHeader NiftiHeader::parse(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < kHeaderSize) corrupt("it has " + std::to_string(bytes.size()) + " bytes of a header of 348");
  NiftiHeader header;
  std::copy_n(bytes.begin(), kHeaderSize, header.bytes_.begin());
  const auto size = little<std::uint32_t>(bytes.data());
  header.swapped = size == 0x5C010000;
  const auto size2 = header.swapped ? kHeaderSize : size;
  if (size == 540 || size == 0x1C020000) {
    refuse(MAMBASDK_ERROR_UNSUPPORTED, "is of version 2, expected NIfTI-1; convert it");
  }
  if (size2 != kHeaderSize) corrupt("its header is said to have " + std::to_string(size) + " bytes, expected 348");
  const std::string_view magic(reinterpret_cast<const char*>(&bytes[kMagic]), 3);
  if (magic == "ni1") refuse(MAMBASDK_ERROR_UNSUPPORTED, "is the header of a pair; convert it to one file, .nii");
  if (magic != "n+1") refuse(MAMBASDK_ERROR_UNSUPPORTED, "is Analyze or damaged: its magic is not \"n+1\"; convert it");
  if (header.swapped) {
    for (const Run& run : kRuns) {
      for (std::size_t i = 0; i < run.count; ++i) {
        const auto at = header.bytes_.begin() + static_cast<std::ptrdiff_t>(run.at + i * run.size);
        std::reverse(at, at + static_cast<std::ptrdiff_t>(run.size));
      }
    }
  }
  return header;
}

std::int64_t NiftiHeader::integer16(std::size_t at) const {
  return std::bit_cast<std::int16_t>(little<std::uint16_t>(&bytes_[at]));
}

double NiftiHeader::real32(std::size_t at) const {
  return std::bit_cast<float>(little<std::uint32_t>(&bytes_[at]));
}

void NiftiHeader::set_integer16(std::size_t at, std::int64_t value) {
  put_little(&bytes_[at], static_cast<std::uint16_t>(value));
}

void NiftiHeader::set_real32(std::size_t at, double value) {
  put_little(&bytes_[at], std::bit_cast<std::uint32_t>(static_cast<float>(value)));
}

void NiftiHeader::set_shape(const Shape& shape) {
  const std::int64_t dims = integer16(kDim) == 2 && shape[0] == 1 ? 2 : 3;
  set_integer16(kDim, dims);
  for (std::size_t d = 1; d < 8; ++d) {
    const std::int64_t extent = d <= 3 ? shape[3 - d] : 1;
    if (extent < 1 || extent > kMostExtent) {
      plugin::invalid("a NIfTI-1 file has extents from 1 to 32767, got " + plugin::to_text(shape));
    }
    set_integer16(kDim + 2 * d, extent);
  }
}

Shape NiftiHeader::shape() const {
  const std::int64_t dims = integer16(kDim);
  if (dims < 2 || dims > 7) corrupt("it is said to have " + std::to_string(dims) + " dims, expected 2 or 3");
  Shape shape{1, 1, 1};
  std::int64_t volumes = 1;
  for (std::int64_t d = 1; d <= dims; ++d) {
    const std::int64_t extent = integer16(kDim + 2 * static_cast<std::size_t>(d));
    if (extent < 1) corrupt("its dim " + std::to_string(d) + " is " + std::to_string(extent) + ", expected 1 or more");
    if (d <= 3) {
      shape[static_cast<std::size_t>(3 - d)] = extent;
    } else {
      volumes = std::max(volumes, extent);
    }
  }
  if (volumes != 1) {
    refuse(MAMBASDK_ERROR_UNSUPPORTED, "has " + std::to_string(dims) + " dims, of " + std::to_string(volumes) +
                                           " volumes or more, expected one volume; split it into one file for each");
  }
  return shape;
}

Spacing NiftiHeader::spacing() const {
  const Shape extents = shape();
  Spacing spacing{};
  for (std::size_t a = 0; a < 3; ++a) {
    const double mm = std::abs(real32(kPixdim + 4 * (3 - a)));
    spacing[a] = mm;
    if (std::isfinite(mm) && mm > 0) continue;
    if (extents[a] != 1)
      corrupt("its spacing along dim " + std::to_string(3 - a) + " is " + std::to_string(mm) + " mm");
    spacing[a] = 1;  // an axis of one voxel
  }
  return spacing;
}

}  // namespace mambasdk::medical
