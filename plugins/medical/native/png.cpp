#include "png.hpp"

#include <algorithm>
#include <cstdlib>

#include "bytes.hpp"

namespace mambasdk::medical {

namespace {

constexpr std::string_view kSignature("\x89PNG\r\n\x1a\n", 8);
constexpr std::int64_t kMostSide = 1 << 20;

// Colour types of the standard (ISO/IEC 15948).
constexpr int kGrey = 0, kRgb = 2, kPalette = 3, kGreyAlpha = 4, kRgba = 6;

[[noreturn]] void corrupt(const std::string& name, const std::string& what) {
  throw Error(MAMBASDK_ERROR_CORRUPT, name, name + ": the PNG file is damaged: " + what);
}

std::uint32_t big32(std::string_view bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<std::uint8_t>(bytes[i]);
  return value;
}

std::span<const std::uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

struct Header {
  std::int64_t width = 0, height = 0;
  int depth = 0, colour = 0;
  [[nodiscard]] std::size_t samples() const {
    return colour == kRgb ? 3U : colour == kGreyAlpha ? 2U : colour == kRgba ? 4U : 1U;
  }
  [[nodiscard]] std::size_t row_bytes() const {
    return (static_cast<std::size_t>(width) * samples() * static_cast<std::size_t>(depth) + 7) / 8;
  }
};

Header read_header(std::string_view data, const std::string& name) {
  if (data.size() != 13) corrupt(name, "its header has another size");
  Header h{big32(data), big32(data.substr(4)), data[8], data[9]};
  const bool small = h.depth == 1 || h.depth == 2 || h.depth == 4;
  const bool deep = h.depth == 8 || h.depth == 16;
  const bool fits = h.colour == kGrey      ? small || deep
                    : h.colour == kPalette ? small || h.depth == 8
                                           : deep && (h.colour == kRgb || h.colour == kGreyAlpha || h.colour == kRgba);
  if (!fits || data[10] != 0 || data[11] != 0) corrupt(name, "its header names no known coding");
  if (data[12] != 0) {
    throw Error(MAMBASDK_ERROR_UNSUPPORTED, name, name + ": the PNG file is interlaced; save it without interlacing");
  }
  if (h.width < 1 || h.height < 1 || h.width > kMostSide || h.height > kMostSide) {
    corrupt(name, "it is " + std::to_string(h.width) + " x " + std::to_string(h.height));
  }
  return h;
}

struct File {
  Header header;
  std::string palette;               // three bytes a colour
  std::vector<std::uint8_t> pixels;  // compressed
};

File read_chunks(std::string_view bytes, const std::string& name) {
  File file;
  bool ended = false;
  for (std::size_t at = kSignature.size(); !ended;) {
    if (bytes.size() - at < 12) corrupt(name, "it is cut off");
    const std::size_t size = big32(bytes.substr(at));
    if (size > bytes.size() - at - 12) corrupt(name, "a chunk is cut off");
    const std::string_view checked = bytes.substr(at + 4, size + 4);
    const std::string_view kind = checked.substr(0, 4), data = checked.substr(4);
    const auto crc = crc32_z(0, as_bytes(checked).data(), checked.size());
    if (crc != big32(bytes.substr(at + 8 + size))) corrupt(name, "a checksum does not fit");
    if (file.header.width == 0 && kind != "IHDR") corrupt(name, "it does not begin with its header");
    if (kind == "IHDR") {
      if (file.header.width != 0) corrupt(name, "it has two headers");
      file.header = read_header(data, name);
    } else if (kind == "IDAT") {
      const auto piece = as_bytes(data);
      file.pixels.insert(file.pixels.end(), piece.begin(), piece.end());
    } else if (kind == "IEND") {
      ended = true;
    } else if ((kind[0] & 0x20) == 0 && kind != "PLTE") {
      corrupt(name, "it has an unknown chunk that matters");
    }
    at += size + 12;
  }
  return file;
}

// Undoes the filter of a row; `above` is the row before it, zeros for the first. step: bytes from pixel to pixel.
void unfilter(int filter, std::span<std::uint8_t> row, std::span<const std::uint8_t> above, std::size_t step,
              const std::string& name) {
  if (filter < 0 || filter > 4) corrupt(name, "a row has an unknown filter");
  for (std::size_t i = 0; i < row.size(); ++i) {
    const int a = i >= step ? row[i - step] : 0, b = above[i], c = i >= step ? above[i - step] : 0;
    int guess = 0;
    if (filter == 1) guess = a;
    if (filter == 2) guess = b;
    if (filter == 3) guess = (a + b) / 2;
    if (filter == 4) {  // Paeth: the neighbour nearest to a + b - c
      const int pa = std::abs(b - c), pb = std::abs(a - c), pc = std::abs(a + b - 2 * c);
      guess = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
    }
    row[i] = static_cast<std::uint8_t>(row[i] + guess);
  }
}

int sample_of(std::span<const std::uint8_t> row, std::size_t i, int depth) {
  if (depth == 16) return row[2 * i] << 8 | row[2 * i + 1];
  if (depth == 8) return row[i];
  const std::size_t bit = i * static_cast<std::size_t>(depth);
  const int shift = 8 - depth - static_cast<int>(bit % 8);
  return row[bit / 8] >> shift & ((1 << depth) - 1);
}

void put_big32(std::vector<std::uint8_t>& out, std::size_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}

void put_chunk(std::vector<std::uint8_t>& out, std::string_view kind, std::span<const std::uint8_t> data) {
  put_big32(out, data.size());
  const std::size_t begin = out.size();
  out.insert(out.end(), kind.begin(), kind.end());
  out.insert(out.end(), data.begin(), data.end());
  put_big32(out, crc32_z(0, out.data() + begin, out.size() - begin));
}

}  // namespace

bool is_png(std::string_view bytes) {
  return bytes.starts_with(kSignature);
}

Volume read_png(std::string_view bytes, std::int64_t max_voxels, const std::string& name) {
  const File file = read_chunks(bytes, name);
  const Header& h = file.header;
  const bool colours = h.colour == kRgb || h.colour == kRgba;
  Volume out{colours ? 3 : 1, {1, h.height, h.width}, {}};
  const std::int64_t extents[] = {out.channels, h.height, h.width};
  const auto count = static_cast<std::size_t>(checked_count(extents, max_voxels, name));
  const std::size_t row_bytes = h.row_bytes() + 1, rows = static_cast<std::size_t>(h.height);
  if (row_bytes * rows > file.pixels.size() * static_cast<std::size_t>(kBytesOfByte)) {
    corrupt(name, "it cannot hold the pixels that it is said to have");
  }
  std::vector<std::uint8_t> raw(row_bytes * rows);
  inflate_zlib(file.pixels, raw, name);
  out.values.resize(count);
  const std::size_t width = static_cast<std::size_t>(h.width), plane = width * rows;
  const std::size_t step = std::max<std::size_t>(1, h.samples() * static_cast<std::size_t>(h.depth) / 8);
  const bool stretched = h.colour == kGrey && (h.depth == 2 || h.depth == 4);
  const float scale = stretched ? 255.0F / static_cast<float>((1 << h.depth) - 1) : 1.0F;
  const int dropped = h.depth == 16 && h.colour != kGrey ? 8 : 0;
  std::vector<std::uint8_t> nothing(row_bytes - 1, 0);
  std::span<const std::uint8_t> above = nothing;
  for (std::size_t y = 0; y < rows; ++y) {
    const std::span row(raw.data() + y * row_bytes + 1, row_bytes - 1);
    unfilter(raw[y * row_bytes], row, above, step, name);
    above = row;
    for (std::size_t x = 0; x < width; ++x) {
      float* pixel = &out.values[y * width + x];
      for (std::size_t c = 0; c < static_cast<std::size_t>(out.channels); ++c) {
        pixel[c * plane] = static_cast<float>(sample_of(row, x * h.samples() + c, h.depth) >> dropped) * scale;
      }
    }
  }
  return out;
}

template <class T>
std::vector<std::uint8_t> write_png(std::int64_t height, std::int64_t width, std::span<const T> values) {
  std::vector<std::uint8_t> out(kSignature.begin(), kSignature.end());
  std::vector<std::uint8_t> header;
  put_big32(header, static_cast<std::size_t>(width));
  put_big32(header, static_cast<std::size_t>(height));
  const std::uint8_t coding[] = {8 * sizeof(T), kGrey, 0, 0, 0};
  header.insert(header.end(), std::begin(coding), std::end(coding));
  put_chunk(out, "IHDR", header);
  std::vector<std::uint8_t> raw;
  raw.reserve(static_cast<std::size_t>(height) + values.size_bytes());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i % static_cast<std::size_t>(width) == 0) raw.push_back(0);  // no filter
    if constexpr (sizeof(T) == 2) raw.push_back(static_cast<std::uint8_t>(values[i] >> 8));
    raw.push_back(static_cast<std::uint8_t>(values[i]));
  }
  put_chunk(out, "IDAT", deflate_zlib(raw));
  put_chunk(out, "IEND", {});
  return out;
}

template std::vector<std::uint8_t> write_png(std::int64_t, std::int64_t, std::span<const std::uint8_t>);
template std::vector<std::uint8_t> write_png(std::int64_t, std::int64_t, std::span<const std::uint16_t>);

}  // namespace mambasdk::medical
