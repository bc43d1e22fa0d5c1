// PNG by libspng, whose decoder checks every chunk and keeps to the limits below.
#include <spng.h>

#include <memory>
#include <string>

#include "image.hpp"
#include "mambasdk/base.hpp"

namespace mambasdk::vision {

namespace {

// Of a chunk and of all chunks kept (EXIF, colour profiles); the pixels are not among them.
constexpr std::size_t kMaxChunk = std::size_t{8} << 20;

void check_png(int code) {
  if (code == SPNG_OK) return;
  if (code == SPNG_EMEM) throw std::bad_alloc();
  throw Error(MAMBASDK_ERROR_CORRUPT, "image", std::string("image: the PNG file is damaged: ") + spng_strerror(code));
}

}  // namespace

Image decode_png(std::string_view bytes, std::int64_t max_pixels, int& orientation) {
  const std::unique_ptr<spng_ctx, void (*)(spng_ctx*)> png(spng_ctx_new(0), spng_ctx_free);
  if (!png) throw std::bad_alloc();
  check_png(spng_set_image_limits(png.get(), kMaxSide, kMaxSide));
  check_png(spng_set_chunk_limits(png.get(), kMaxChunk, kMaxChunk));
  check_png(spng_set_png_buffer(png.get(), bytes.data(), bytes.size()));
  spng_ihdr header{};
  check_png(spng_get_ihdr(png.get(), &header));
  check_image_size(header.width, header.height, max_pixels);
  std::size_t size = 0;
  check_png(spng_decoded_image_size(png.get(), SPNG_FMT_RGB8, &size));
  Image image{header.height, header.width, {}};
  if (size != static_cast<std::size_t>(image.height * image.width * 3)) {
    throw Error(MAMBASDK_ERROR_INTERNAL, "image", "image: the PNG decoder gives another size than the header");
  }
  image.rgb.resize(size);
  check_png(spng_decode_image(png.get(), image.rgb.data(), size, SPNG_FMT_RGB8, 0));
  spng_exif exif{};
  if (spng_get_exif(png.get(), &exif) == SPNG_OK) orientation = exif_orientation({exif.data, exif.length});
  return image;
}

}  // namespace mambasdk::vision
