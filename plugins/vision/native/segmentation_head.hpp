// Head kind `semantic_segmentation`: logits of a coarse map to the class of every pixel of the original image.
#pragma once

#include <array>

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"

namespace mambasdk::vision {

using Colour = std::array<std::uint8_t, 3>;  // RGB

// Options, with their defaults:
//   labels      []        names by class
//   palette     []        colours by class, "#rrggbb"; none: those of PASCAL VOC
//   ignore      255       written where the model saw nothing of the image (a crop), or no logit is a number; -1 by
//                         default for more than 255 classes; no class's index
//   runs        false     the class map in the JSON too
//   max_pixels  67108864  larger originals are refused
//   input       "logits"  name of the model's output
//   image       "image"   name of the model's input, whose size says what the logits stand for
// Takes logits f32 (1, C, h, w) or (C, h, w); image_size and image_transform of the processor `image` where it ran, and
// then the tensor `image` f32 (1, 3, H', W') too. Without these the logits stand for the whole image, which is of their
// size. Logits are interpolated once, bilinearly between the centres of their cells (torch's align_corners=False), at
// the centre of each pixel of the original; the largest wins, of equals the first. A run may override runs.
// Emits class_map u8 (H, W), or i32 for more than 255 classes or an ignore that is no u8; palette u8 (C, 3); json
// {"height", "width", "classes": [{"label", "index", "share", "pixels", "color"}]}, the most frequent first, only those
// that occur; share: of the pixels that have a class. With runs also "runs": [[index, length], ...], row by row.
class SemanticSegmentation {
 public:
  static constexpr std::string_view kind = "semantic_segmentation";
  static constexpr std::string_view doc = "Logits of a map to the class of every pixel of the original image.";
  static constexpr std::string_view options[] = {"labels", "palette", "ignore", "runs", "max_pixels", "input", "image"};
  explicit SemanticSegmentation(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  // Where the pixels of the original lie among the cells of the logits: cell = scale * pixel + offset, centres both.
  struct Grid {
    std::int64_t height = 0, width = 0;  // of the original
    double scale_y = 1, scale_x = 1, offset_y = 0, offset_x = 0;
  };
  [[nodiscard]] Grid grid(const plugin::Inputs& inputs, std::int64_t height, std::int64_t width) const;
  [[nodiscard]] std::int64_t ignored(std::int64_t classes) const;

  std::vector<std::string> labels_;
  std::vector<Colour> palette_;
  bool has_ignore_;
  std::int64_t ignore_;
  bool runs_;
  std::int64_t max_pixels_;
  std::string input_, image_;
};

}  // namespace mambasdk::vision
