// Images as 8-bit RGB, and reading them from the bytes of PNG and JPEG files. Nothing in a file is trusted.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace mambasdk::vision {

struct Image {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::vector<std::uint8_t> rgb;  // (height, width, 3)
};

struct Mask {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::vector<std::uint8_t> indices;  // (height, width), of classes
};

// Largest width or height of a file; below what either format can say, so that sizes never overflow.
inline constexpr std::int64_t kMaxSide = 1 << 20;

// Pixels that a byte of a JPEG file may stand for: a block of 64 takes a bit at least where the coding is Huffman's.
inline constexpr std::int64_t kJpegPixelsOfByte = 1024;
// Decompressed bytes for a byte of a PNG file: deflate cannot do better than 1032.
inline constexpr std::int64_t kPngBytesOfByte = 1040;

// A PNG or JPEG file, turned upright as its EXIF orientation says. Alpha is dropped; 16-bit samples keep their upper
// byte. Throws Error: corrupt for a damaged or cut file, unsupported for another format, invalid_argument for more than
// max_pixels. Both that and whether so short a file can hold so many pixels are checked before anything is allocated.
[[nodiscard]] Image decode_image(std::string_view bytes, std::int64_t max_pixels);

// The indices of a PNG with a palette, or the samples of a grey one of up to 8 bits, unscaled: classes of pixels.
// Throws Error: unsupported for colours, 16 bits and other formats; otherwise as decode_image. Orientations are not
// looked at.
[[nodiscard]] Mask decode_mask(std::string_view bytes, std::int64_t max_pixels);

[[nodiscard]] bool is_png(std::string_view bytes);
[[nodiscard]] bool is_jpeg(std::string_view bytes);

// The two formats by themselves; `orientation` is the EXIF value, 1 where there is none.
[[nodiscard]] Image decode_png(std::string_view bytes, std::int64_t max_pixels, int& orientation);
[[nodiscard]] Image decode_jpeg(std::string_view bytes, std::int64_t max_pixels, int& orientation);

void check_image_size(std::int64_t width, std::int64_t height, std::int64_t max_pixels);
// Throws Error (corrupt) where `needed`, of pixels or bytes, is more than a file of `size` bytes can hold.
void check_held(std::int64_t needed, std::size_t size, std::int64_t of_byte);

// Orientation (1 to 8) of an EXIF block that starts with its TIFF header; 1 where it has none or is damaged.
[[nodiscard]] int exif_orientation(std::string_view tiff);
// The image as it was seen: EXIF's transform undone.
[[nodiscard]] Image upright(Image image, int orientation);

}  // namespace mambasdk::vision
