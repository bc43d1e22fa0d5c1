// NIfTI-1 in one file (.nii, .nii.gz), read and written in memory. Nothing in a file is trusted.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "volume.hpp"

namespace mambasdk::medical {

inline constexpr std::size_t kHeaderSize = 348;

// The 348 bytes of a header, little-endian whatever the file was.
class NiftiHeader {
 public:
  NiftiHeader() = default;
  // Of a new file of `spacing` mm; affine: rows of x, y and z in mm by column, row, slice and 1 (3, 4), its sform.
  NiftiHeader(const Shape& shape, const Spacing& spacing, std::span<const double> affine);
  // Throws Error: corrupt for a damaged one, unsupported for NIfTI-2, Analyze and pairs of files.
  [[nodiscard]] static NiftiHeader parse(std::span<const std::uint8_t> bytes);

  // Depth, height, width; a dim that is not there is 1. Throws Error: corrupt for sizes that are none, unsupported for
  // more than one volume.
  [[nodiscard]] Shape shape() const;
  // In mm, positive: what pixdim says. Throws Error (corrupt) where it is zero or no number along an axis.
  [[nodiscard]] Spacing spacing() const;
  [[nodiscard]] std::span<const std::uint8_t> bytes() const { return bytes_; }

  [[nodiscard]] std::int64_t integer16(std::size_t at) const;
  [[nodiscard]] double real32(std::size_t at) const;
  void set_integer16(std::size_t at, std::int64_t value);
  void set_real32(std::size_t at, double value);
  void set_shape(const Shape& shape);

  bool swapped = false;  // the file's numbers are big-endian

 private:
  std::array<std::uint8_t, kHeaderSize> bytes_{};
};

struct Nifti {
  NiftiHeader header;
  Volume volume;  // of one channel: scl_slope * stored + scl_inter
};

[[nodiscard]] bool is_nifti(std::string_view bytes);

// A whole file, or one compressed by gzip. Reads int8, uint8, int16, uint16, int32, uint32, float32 and float64 of
// either byte order. Throws Error: corrupt where it is damaged, cut off or holds numbers that are not finite;
// unsupported for other types, several volumes, NIfTI-2 and pairs; invalid_argument for more than max_voxels. Whether
// so short a file can hold so much is checked before anything is allocated. name: for errors.
[[nodiscard]] Nifti read_nifti(std::string_view bytes, std::int64_t max_voxels, const std::string& name);

// A file with the orientation of `like` and no scaling. T: uint8_t, uint16_t, int16_t, int32_t, float. values (*shape).
template <class T>
[[nodiscard]] std::vector<std::uint8_t> write_nifti(const NiftiHeader& like, const Shape& shape,
                                                    std::span<const T> values, bool compress);

}  // namespace mambasdk::medical
