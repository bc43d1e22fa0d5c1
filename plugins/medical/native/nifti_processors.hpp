// Processor kinds `nifti` and `nifti_file`: files of volumes to arrays and back, for those who prepare data.
#pragma once

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"

namespace mambasdk::medical {

// Option: max_voxels (2^30). Takes one u8 (n), a .nii or .nii.gz file. Emits array f32 (D, H, W), spacing f64 (3) in
// mm, header u8 (348).
class NiftiReader {
 public:
  static constexpr std::string_view kind = "nifti";
  static constexpr std::string_view doc = "A NIfTI-1 file to its voxels, spacing and header.";
  static constexpr std::string_view options[] = {"max_voxels"};
  explicit NiftiReader(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  std::int64_t max_voxels_;
};

// Options: compress (true); type ("uint16", "int16" or "int32"), which numbers i32 are stored as. Takes array u8, i32
// or f32 (D, H, W) or (H, W) and header u8 (348), or, in its place, spacing f64 (3) with affine f64 (3, 4), which may
// be left out. Emits file u8 (n), whose orientation is the header's.
class NiftiWriter {
 public:
  static constexpr std::string_view kind = "nifti_file";
  static constexpr std::string_view doc = "Voxels and a header to a NIfTI-1 file.";
  static constexpr std::string_view options[] = {"compress", "type"};
  explicit NiftiWriter(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  bool compress_;
  std::string type_;
};

}  // namespace mambasdk::medical
