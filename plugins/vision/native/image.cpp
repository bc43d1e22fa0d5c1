#include "image.hpp"

#include <algorithm>
#include <string>

#include "mambasdk/base.hpp"

namespace mambasdk::vision {

bool is_png(std::string_view bytes) {
  return bytes.starts_with("\x89PNG\r\n\x1a\n");
}

bool is_jpeg(std::string_view bytes) {
  return bytes.starts_with("\xff\xd8\xff");
}

void check_image_size(std::int64_t width, std::int64_t height, std::int64_t max_pixels) {
  if (width <= 0 || height <= 0) throw Error(MAMBASDK_ERROR_CORRUPT, "image", "image: it has no pixels");
  if (width > kMaxSide || height > kMaxSide || width * height > max_pixels) {
    throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "image",
                "image: it is " + std::to_string(width) + " x " + std::to_string(height) + ", expected at most " +
                    std::to_string(max_pixels) + " pixels; raise max_pixels or scale it down first");
  }
}

void check_held(std::int64_t needed, std::size_t size, std::int64_t of_byte) {
  constexpr std::int64_t kSlack = 1 << 16;  // of tiny files, whatever their coding
  if (needed <= kSlack || (needed - kSlack) / of_byte < static_cast<std::int64_t>(size)) return;
  throw Error(MAMBASDK_ERROR_CORRUPT, "image",
              "image: " + std::to_string(size) +
                  " bytes cannot hold an image of the size that they say; the file is cut "
                  "off or damaged");
}

Image decode_image(std::string_view bytes, std::int64_t max_pixels) {
  int orientation = 1;
  if (is_png(bytes)) {
    Image image = decode_png(bytes, max_pixels, orientation);
    return upright(std::move(image), orientation);
  }
  if (is_jpeg(bytes)) {
    Image image = decode_jpeg(bytes, max_pixels, orientation);
    return upright(std::move(image), orientation);
  }
  throw Error(MAMBASDK_ERROR_UNSUPPORTED, "image",
              "image: these " + std::to_string(bytes.size()) +
                  " bytes are neither PNG nor JPEG; convert the file, or give decoded pixels as u8 (H, W, 3)");
}

// TIFF: byte order, 42, offset of the directory; entries of 12 bytes: tag, type, count, value.
int exif_orientation(std::string_view tiff) {
  if (tiff.size() < 8 || (tiff[0] != 'I' && tiff[0] != 'M') || tiff[0] != tiff[1]) return 1;
  const bool little = tiff[0] == 'I';
  const auto read = [&](std::size_t at, std::size_t size) -> std::uint64_t {
    if (at > tiff.size() || size > tiff.size() - at) return 0;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      value = value << 8 | static_cast<std::uint8_t>(tiff[at + (little ? size - 1 - i : i)]);
    }
    return value;
  };
  constexpr std::uint64_t kOrientation = 0x0112;
  constexpr std::uint64_t kShort = 3;
  const std::size_t directory = static_cast<std::size_t>(read(4, 4));
  const std::uint64_t entries = read(directory, 2);
  for (std::uint64_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + static_cast<std::size_t>(i) * 12;
    if (entry + 12 > tiff.size()) break;
    if (read(entry, 2) != kOrientation) continue;
    const std::uint64_t value = read(entry + 8, 2);
    return read(entry + 2, 2) == kShort && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

// Orientations 2 to 4 mirror and turn by half; 5 to 8 exchange the axes as well.
Image upright(Image image, int orientation) {
  if (orientation <= 1) return image;
  const bool swapped = orientation >= 5;
  Image out;
  out.height = swapped ? image.width : image.height;
  out.width = swapped ? image.height : image.width;
  out.rgb.resize(image.rgb.size());
  const bool flip_rows = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool flip_columns = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  for (std::int64_t y = 0; y < out.height; ++y) {
    for (std::int64_t x = 0; x < out.width; ++x) {
      std::int64_t row = swapped ? x : y;
      std::int64_t column = swapped ? y : x;
      if (flip_rows) row = image.height - 1 - row;
      if (flip_columns) column = image.width - 1 - column;
      const std::uint8_t* from = &image.rgb[static_cast<std::size_t>((row * image.width + column) * 3)];
      std::copy(from, from + 3, &out.rgb[static_cast<std::size_t>((y * out.width + x) * 3)]);
    }
  }
  return out;
}

}  // namespace mambasdk::vision
