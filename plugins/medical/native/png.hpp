// PNG for 2-D images: pixels with all of their bits in, maps of labels out. Nothing in a file is trusted.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "volume.hpp"

namespace mambasdk::medical {

[[nodiscard]] bool is_png(std::string_view bytes);

// (1 or 3, 1, height, width): grey, the indices of a palette, or red, green and blue; alpha is dropped. Samples as
// Pillow gives them: 8 and 16 bits of grey as they are, 2 and 4 bits stretched to 255, 1 bit 0 and 1, of 16 bits of
// colours or beside alpha the upper 8. Throws Error: corrupt, unsupported for interlaced files, invalid_argument for
// more than max_voxels. name: for errors.
[[nodiscard]] Volume read_png(std::string_view bytes, std::int64_t max_voxels, const std::string& name);

// Grey, 8 or 16 bits: T is uint8_t or uint16_t. values (height, width).
template <class T>
[[nodiscard]] std::vector<std::uint8_t> write_png(std::int64_t height, std::int64_t width, std::span<const T> values);

}  // namespace mambasdk::medical
