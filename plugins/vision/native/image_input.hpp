// The raw image that a processor is given.
#pragma once

#include "image.hpp"
#include "mambasdk/plugin.hpp"

namespace mambasdk::vision {

// u8 (n), the bytes of a PNG or JPEG file, or u8 (H, W, 3), RGB pixels. `kind`: of the processor, for errors.
[[nodiscard]] Image read_image(const TensorView& input, std::int64_t max_pixels, std::string_view kind);

}  // namespace mambasdk::vision
