// Head kind `medical_segmentation`: a volume in tiles through the model, and back to a label map on the file's grid.
#pragma once

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "sliding_window.hpp"

namespace mambasdk::medical {

struct Grid;

// Options, with their defaults; an empty list is the default:
//   patch_size           []    of the model: (H, W) or (D, H, W); none: as the model's input says
//   labels               []    names of the channels of the logits, with the background, or of regions
//   regions_class_order  []    the values of regions, by channel: where the logit is above 0 (the sigmoid above 0.5),
//   later
//                              ones over earlier ones. None: the channel of the largest logit is the label
//   step                 0.5   how far tiles move, of their size
//   mirror_axes          []    axes of the patch: the logits are the mean over the tile mirrored in each set of them
//   mirror               true  whether it is mirrored at all
//   gaussian             true  voxels count less towards a tile's edges
//   probabilities        false emits them
//   compress             true  a label file in NIfTI is .nii.gz, else .nii
//   input, output        "image", "logits"   names of the model's input and output
//   configuration, dataset     what others than this head read
// A run may override step, mirror, probabilities and compress. Takes what the processor `medical_image` made; drives
// the model f32 (1, C, *patch) -> f32 (1, K, *patch), slice by slice where the patch is (H, W). Emits, on the grid of
// the files: label_map u8, or u16 for values past 255, (D, H, W); label_file u8 (n), NIfTI with the orientation of the
// image's file, PNG (grey) where the image had none; with probabilities f32 (K, D, H, W), softmax, or sigmoid of
// regions, and outside of what the model saw 1 for the background; json {"shape", "spacing", "labels": [{"label",
// "value", "voxels", "share", "volume_ml"}]}, without the background, volume_ml only of NIfTI.
class MedicalSegmentation {
 public:
  static constexpr std::string_view kind = "medical_segmentation";
  static constexpr std::string_view doc =
      "Images and volumes in tiles through a model to a label map on the file's grid.";
  MedicalSegmentation(std::string_view config, std::string_view directory);
  void attach(plugin::Model& model);
  void run(plugin::Model& model, const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  struct Run {
    Window window;
    bool probabilities, compress;
  };
  [[nodiscard]] Run settings(const plugin::Inputs& inputs) const;
  template <class T>
  void finish(std::vector<T> map, const Grid& grid, const Run& run, plugin::Emitter& emit) const;

  Window window_;
  std::vector<std::int64_t> patch_;
  std::vector<std::string> labels_;
  std::vector<std::int64_t> regions_;
  std::vector<std::int64_t> mirror_axes_;
  bool mirror_, probabilities_, compress_;
};

}  // namespace mambasdk::medical
