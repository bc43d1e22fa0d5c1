// PNG by libpng. Its errors jump out of a call, so what calls it holds nothing that has a destructor.
#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "image.hpp"
#include "mambasdk/base.hpp"

namespace mambasdk::vision {

namespace {

// Of a chunk in memory and of the number of chunks kept (EXIF, colour profiles); the pixels are not among them.
constexpr png_alloc_size_t kMaxChunk = png_alloc_size_t{8} << 20;
constexpr png_uint_32 kMaxChunks = 128;

struct Source {
  const unsigned char* data;
  std::size_t left;
  char error[128];
};

void read_bytes(png_structp png, png_bytep out, png_size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->left) png_error(png, "the file ends early");
  std::memcpy(out, source->data, count);
  source->data += count;
  source->left -= count;
}

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto* source = static_cast<Source*>(png_get_error_ptr(png));
  std::snprintf(source->error, sizeof source->error, "%s", message);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

bool read_header(png_structp png, png_infop info) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_info(png, info);
  return true;
}

enum class Samples { rgb, indices };

// rgb: 8 bits whatever the file has, an alpha channel is dropped. indices: samples as they are, a byte each.
bool read_pixels(png_structp png, png_infop info, png_bytep* rows, png_size_t row_bytes, Samples samples) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  if (samples == Samples::rgb) {
    png_set_expand(png);  // palettes, transparency, fewer than 8 bits
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
  } else {
    png_set_packing(png);
  }
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != row_bytes) png_error(png, "the decoder gives another size than the header");
  png_read_image(png, rows);
  png_read_end(png, info);
  return true;
}

class Decoder {
 public:
  explicit Decoder(std::string_view bytes)
      : source_{reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), {}},
        png_(png_create_read_struct(PNG_LIBPNG_VER_STRING, &source_, on_error, on_warning)),
        info_(png_ == nullptr ? nullptr : png_create_info_struct(png_)) {
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
    png_set_read_fn(png_, &source_, read_bytes);
    png_set_user_limits(png_, kMaxSide, kMaxSide);
    png_set_chunk_malloc_max(png_, kMaxChunk);
    png_set_chunk_cache_max(png_, kMaxChunks);
  }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }

  // Reads it, and checks the size that it claims.
  void header(std::int64_t max_pixels) {
    const std::size_t size = source_.left;
    check(read_header(png_, info_));
    check_image_size(width(), height(), max_pixels);
    check_held(file_row_bytes() * height(), size, kPngBytesOfByte);
  }
  // (height, row_bytes)
  [[nodiscard]] std::vector<std::uint8_t> pixels(std::size_t row_bytes, Samples samples) {
    std::vector<std::uint8_t> out(static_cast<std::size_t>(height()) * row_bytes);
    std::vector<png_bytep> rows(static_cast<std::size_t>(height()));
    for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = out.data() + y * row_bytes;
    check(read_pixels(png_, info_, rows.data(), row_bytes, samples));
    return out;
  }
  [[nodiscard]] bool has_indices() const {  // a byte at most for a pixel, and no colour but through a palette
    const auto type = png_get_color_type(png_, info_);
    return (type == PNG_COLOR_TYPE_PALETTE || type == PNG_COLOR_TYPE_GRAY) && png_get_bit_depth(png_, info_) <= 8;
  }
  [[nodiscard]] std::int64_t width() const { return png_get_image_width(png_, info_); }
  [[nodiscard]] std::int64_t height() const { return png_get_image_height(png_, info_); }
  [[nodiscard]] std::int64_t file_row_bytes() const {  // before any conversion
    return static_cast<std::int64_t>(png_get_rowbytes(png_, info_));
  }
  [[nodiscard]] int orientation(int otherwise) {
    png_uint_32 size = 0;
    png_bytep exif = nullptr;
    if (png_get_eXIf_1(png_, info_, &size, &exif) == 0) return otherwise;
    return exif_orientation({reinterpret_cast<const char*>(exif), size});
  }

 private:
  void check(bool good) const {
    if (good) return;
    throw Error(MAMBASDK_ERROR_CORRUPT, "image", std::string("image: the PNG file is damaged: ") + source_.error);
  }

  Source source_;
  png_structp png_;
  png_infop info_;
};

}  // namespace

Image decode_png(std::string_view bytes, std::int64_t max_pixels, int& orientation) {
  Decoder decoder(bytes);
  decoder.header(max_pixels);
  Image image{decoder.height(), decoder.width(), {}};
  image.rgb = decoder.pixels(static_cast<std::size_t>(image.width) * 3, Samples::rgb);
  orientation = decoder.orientation(orientation);
  return image;
}

Mask decode_mask(std::string_view bytes, std::int64_t max_pixels) {
  if (!is_png(bytes)) {
    throw Error(MAMBASDK_ERROR_UNSUPPORTED, "mask",
                "mask: these " + std::to_string(bytes.size()) +
                    " bytes are no PNG; masks are PNG files, which keep "
                    "every index");
  }
  Decoder decoder(bytes);
  decoder.header(max_pixels);
  if (!decoder.has_indices()) {
    throw Error(MAMBASDK_ERROR_UNSUPPORTED, "mask",
                "mask: its pixels are colours or have 16 bits; expected class indices, as a palette or in 8 bits of "
                "grey");
  }
  Mask mask{decoder.height(), decoder.width(), {}};
  mask.indices = decoder.pixels(static_cast<std::size_t>(mask.width), Samples::indices);
  return mask;
}

}  // namespace mambasdk::vision
