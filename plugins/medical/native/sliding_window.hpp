// Logits of a volume of any size from a model that takes tiles.
#pragma once

#include <string>

#include "mambasdk/plugin.hpp"
#include "volume.hpp"

namespace mambasdk::medical {

struct Window {
  Shape tile{};          // depth 1 for a model of slices
  bool planes = false;   // the model takes (1, C, H, W)
  double step = 0.5;     // how far tiles move, of their size
  bool gaussian = true;  // voxels count less towards a tile's edges
  std::vector<std::vector<std::size_t>> mirrors{
      {}};  // sets of axes (0 to 2) over which it is mirrored; the first is none
  std::string input = "image", output = "logits";
};

// Logits f32 (K, *shape): the weighted mean of those of the tiles, summed in float32. A volume that is smaller than the
// tile has zeros around it, on both sides, whose logits are dropped. One tile is in memory at a time. Throws Error
// (invalid_argument) where the model's output is not f32 (1, K, *tile) or not finite.
[[nodiscard]] Volume predict(const mambasdk_context& context, plugin::Model& model, std::span<const float> volume,
                             std::int64_t channels, const Shape& shape, const Window& window);

}  // namespace mambasdk::medical
