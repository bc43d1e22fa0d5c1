// The files of a case, or an array, as a processor is given them.
#pragma once

#include "mambasdk/plugin.hpp"
#include "volume.hpp"

namespace mambasdk::medical {

// Channels on one grid. header: of the first file where that is NIfTI.
struct Case {
  Volume volume;
  Spacing spacing{};
  std::vector<std::uint8_t> header;
};

// Of a slot's inputs, as `medical_image` says. Throws Error: those of the readers; invalid_argument for files of other
// shapes or spacings than the first, and for numbers that are not finite.
[[nodiscard]] Case read_case(const plugin::Inputs& inputs, std::int64_t max_voxels);

}  // namespace mambasdk::medical
