// Convolutions of channel-last maps with three spatial extents; 1-D and 2-D maps have extents of 1.
#pragma once

#include "ops/convolution/geometry.hpp"
#include "ops/packed/packed.hpp"

namespace mambasdk {

class Registry;
void register_convolution(Registry& registry);

namespace convolution {

// A call of any of the operations.
struct Problem {
  const Context& context;
  std::string_view operation;
  Geometry geometry;
  const Tensor &x, &weight, &y;
  bool packed = false;
  std::int64_t groups = 1, channels = 0, columns = 0;  // channels of x and of y in a group
  packed::Ending ending;

  // Where the weight of an output (of a group), a tap and an input channel is, in elements.
  [[nodiscard]] std::int64_t weight_offset(std::int64_t group, std::int64_t column, const std::int64_t (&tap)[3],
                                           std::int64_t channel) const;
  [[nodiscard]] bool is_depthwise() const {
    return !packed && !geometry.transposed && channels == 1 && columns == 1 && groups > 1;
  }
};

void reference(const Problem& problem);
void run(const Problem& problem);

}  // namespace convolution

}  // namespace mambasdk
