// Processor kind `mask`: a PNG of class indices, as segmentation is trained and measured on, to its indices.
#pragma once

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"

namespace mambasdk::vision {

// Options, with their defaults:
//   max_pixels  67108864  larger masks are refused before they are decoded
// Takes u8 (n), a PNG file with a palette or of grey in up to 8 bits. Emits mask u8 (H, W), the indices as they are
// stored.
class MaskProcessor {
 public:
  static constexpr std::string_view kind = "mask";
  static constexpr std::string_view doc = "PNG bytes, palette or grey, to u8 (H, W) class indices.";
  static constexpr std::string_view options[] = {"max_pixels"};
  explicit MaskProcessor(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  std::int64_t max_pixels_;
};

}  // namespace mambasdk::vision
