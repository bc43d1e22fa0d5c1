// JPEG by libjpeg-turbo. Its errors come back by longjmp, so the function that sets the jump owns nothing.
#include <cstdio>  // jpeglib.h needs FILE

#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <new>
#include <string>

#include "image.hpp"
#include "mambasdk/base.hpp"

namespace mambasdk::vision {

namespace {

// A hostile progressive file may hold many thousand scans, each of which costs a whole pass.
constexpr int kMaxScans = 256;
constexpr long kMaxDecoderMemory = 1L << 30;

struct Decoder {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  jpeg_source_mgr source{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump{};
  bool created = false;
  bool out_of_memory = false;
  const char* reason = "its data does not decode";
  ~Decoder() {
    if (created) jpeg_destroy_decompress(&info);
  }
};

Decoder& owner(j_common_ptr info) {
  return *static_cast<Decoder*>(info->client_data);
}

[[noreturn]] void stop(j_common_ptr info, const char* reason) {
  owner(info).reason = reason;
  std::longjmp(owner(info).jump, 1);
}

// The error functions are all ours: libjpeg's own print to stderr and end the process.
void set_errors(jpeg_error_mgr& e) {
  e.error_exit = [](j_common_ptr info) {
    owner(info).out_of_memory = info->err->msg_code == JERR_OUT_OF_MEMORY;
    std::longjmp(owner(info).jump, 1);
  };
  e.emit_message = [](j_common_ptr, int) {};
  e.output_message = [](j_common_ptr) {};
  e.format_message = [](j_common_ptr, char* text) { *text = '\0'; };
  e.reset_error_mgr = [](j_common_ptr info) { info->err->msg_code = 0; };
}

void set_source(Decoder& d, std::string_view bytes) {
  d.source.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data());
  d.source.bytes_in_buffer = bytes.size();
  d.source.init_source = [](j_decompress_ptr) {};
  d.source.fill_input_buffer = [](j_decompress_ptr info) -> boolean {
    stop(reinterpret_cast<j_common_ptr>(info), "the file ends early");
  };
  d.source.skip_input_data = [](j_decompress_ptr info, long count) {
    if (count <= 0) return;
    if (static_cast<std::size_t>(count) > info->src->bytes_in_buffer) {
      stop(reinterpret_cast<j_common_ptr>(info), "the file ends early");
    }
    info->src->next_input_byte += count;
    info->src->bytes_in_buffer -= static_cast<std::size_t>(count);
  };
  d.source.resync_to_restart = jpeg_resync_to_restart;
  d.source.term_source = [](j_decompress_ptr) {};
}

// False after an error. Reads the header, EXIF included.
bool read_header(Decoder& d, std::string_view bytes) {
  if (setjmp(d.jump) != 0) return false;
  set_errors(d.errors);
  d.info.err = &d.errors;
  d.info.client_data = &d;
  jpeg_create_decompress(&d.info);
  d.created = true;
  d.info.mem->max_memory_to_use = kMaxDecoderMemory;
  set_source(d, bytes);
  d.info.src = &d.source;
  d.progress.progress_monitor = [](j_common_ptr info) {
    if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMaxScans) stop(info, "it has too many scans");
  };
  d.info.progress = &d.progress;
  jpeg_save_markers(&d.info, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&d.info, TRUE);
  const bool four = d.info.jpeg_color_space == JCS_CMYK || d.info.jpeg_color_space == JCS_YCCK;
  d.info.out_color_space = four ? JCS_CMYK : JCS_RGB;
  return true;
}

// rows: (height, width, components)
bool read_rows(Decoder& d, std::uint8_t* rows, std::size_t stride) {
  if (setjmp(d.jump) != 0) return false;
  jpeg_start_decompress(&d.info);
  while (d.info.output_scanline < d.info.output_height) {
    JSAMPROW row = rows + d.info.output_scanline * stride;
    jpeg_read_scanlines(&d.info, &row, 1);
  }
  jpeg_finish_decompress(&d.info);
  return true;
}

[[noreturn]] void fail_decode(const Decoder& d) {
  if (d.out_of_memory) throw std::bad_alloc();
  throw Error(MAMBASDK_ERROR_CORRUPT, "image", std::string("image: the JPEG file is damaged: ") + d.reason);
}

// Adobe's files hold the inks inverted, so 255 is no ink.
std::vector<std::uint8_t> rgb_of_cmyk(const std::vector<std::uint8_t>& cmyk, bool inverted) {
  std::vector<std::uint8_t> rgb(cmyk.size() / 4 * 3);
  for (std::size_t i = 0; i < cmyk.size() / 4; ++i) {
    const int black = inverted ? cmyk[i * 4 + 3] : 255 - cmyk[i * 4 + 3];
    for (std::size_t c = 0; c < 3; ++c) {
      const int ink = inverted ? cmyk[i * 4 + c] : 255 - cmyk[i * 4 + c];
      rgb[i * 3 + c] = static_cast<std::uint8_t>((ink * black + 127) / 255);
    }
  }
  return rgb;
}

}  // namespace

Image decode_jpeg(std::string_view bytes, std::int64_t max_pixels, int& orientation) {
  Decoder d;
  if (!read_header(d, bytes)) fail_decode(d);
  check_image_size(d.info.image_width, d.info.image_height, max_pixels);
  check_held(std::int64_t{d.info.image_width} * d.info.image_height, bytes.size(), kJpegPixelsOfByte);
  for (jpeg_saved_marker_ptr marker = d.info.marker_list; marker != nullptr; marker = marker->next) {
    constexpr std::string_view kExif("Exif\0\0", 6);
    const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (marker->marker == JPEG_APP0 + 1 && data.starts_with(kExif)) {
      orientation = exif_orientation(data.substr(kExif.size()));
    }
  }
  Image image{d.info.image_height, d.info.image_width, {}};
  const std::size_t components = d.info.out_color_space == JCS_CMYK ? 4 : 3;
  const std::size_t stride = static_cast<std::size_t>(image.width) * components;
  image.rgb.resize(static_cast<std::size_t>(image.height) * stride);
  if (!read_rows(d, image.rgb.data(), stride)) fail_decode(d);
  if (components == 4) image.rgb = rgb_of_cmyk(image.rgb, d.info.saw_Adobe_marker != 0);
  return image;
}

}  // namespace mambasdk::vision
