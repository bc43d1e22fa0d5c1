// Logits on the model's grid to labels and probabilities on the file's.
#pragma once

#include "mambasdk/plugin.hpp"
#include "normalise.hpp"
#include "resample.hpp"

namespace mambasdk::medical {

// What the processor says of a case, its axes in the model's order.
struct Grid {
  Shape full{};  // before it was cropped
  Box box;       // what was kept of that
  Spacing spacing{};
  std::array<std::size_t, 3> transpose{0, 1, 2};
  Resampling back;  // of logits
  std::vector<std::uint8_t> header;

  // Throws Error (invalid_argument) where it makes no sense.
  [[nodiscard]] static Grid of(const plugin::Inputs& inputs);
  // Of the file's axes.
  [[nodiscard]] Shape file_shape() const;
  [[nodiscard]] Spacing file_spacing() const;
  // Values (*box) in the file's grid, with `fill` around them.
  template <class T>
  [[nodiscard]] std::vector<T> place(std::span<const T> values, T fill) const;
};

// Values u16 (*grid.box) of logits (K, *shape): the channel of the largest, of equals the first; or, with `regions`, a
// value for each channel, painted in turn where the logit is above 0. One channel is on the finer grid at a time.
[[nodiscard]] std::vector<std::uint16_t> decide(const mambasdk_context& context, const Volume& logits, const Grid& grid,
                                                std::span<const std::int64_t> regions);

// Probabilities f32 (K, *file shape) of logits, which are taken: softmax, or sigmoid of regions.
[[nodiscard]] std::vector<float> probabilities(const mambasdk_context& context, const Volume& logits, const Grid& grid,
                                               bool regions);

}  // namespace mambasdk::medical
