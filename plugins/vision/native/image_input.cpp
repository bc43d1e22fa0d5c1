#include "image_input.hpp"

namespace mambasdk::vision {

Image read_image(const TensorView& input, std::int64_t max_pixels, std::string_view kind) {
  const auto shape = input.shape();
  if (shape.size() == 1) return decode_image(input.bytes(), max_pixels);
  if (shape.size() != 3 || shape[2] != 3) {
    plugin::invalid(std::string(kind) +
                    ": expected u8 (n), the bytes of a PNG or JPEG file, or u8 (H, W, 3), RGB pixels; got " +
                    plugin::to_text(shape));
  }
  check_image_size(shape[1], shape[0], max_pixels);
  const auto pixels = input.data<std::uint8_t>();  // (H, W, 3)
  return {shape[0], shape[1], {pixels.begin(), pixels.end()}};
}

}  // namespace mambasdk::vision
