#include "image_processor.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "image_input.hpp"

namespace mambasdk::vision {

namespace {

// Offset of a centre crop, half to even as Python's round.
std::int64_t centred(std::int64_t whole, std::int64_t part) {
  return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(whole - part) / 2.0));
}

// The side before the crop.
std::int64_t uncropped(std::int64_t side, double crop_pct) {
  return static_cast<std::int64_t>(std::floor(static_cast<double>(side) / crop_pct));
}

// A side of the largest image of that aspect that fits, half to even as Python's round, one pixel at least.
std::int64_t fitted(std::int64_t side, double scale, std::int64_t most) {
  const double whole = std::nearbyint(static_cast<double>(side) * scale);
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(whole), 1, most);
}

// The image in the middle of one of the given size; of an odd border the smaller part is on top and on the left.
Image framed(const Image& image, std::int64_t height, std::int64_t width, std::uint8_t fill) {
  Image out{height, width, std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3), fill)};
  const std::int64_t top = (height - image.height) / 2;
  const std::int64_t left = (width - image.width) / 2;
  const auto row = static_cast<std::size_t>(image.width * 3);
  for (std::int64_t y = 0; y < image.height; ++y) {
    const std::uint8_t* from = &image.rgb[static_cast<std::size_t>(y) * row];
    std::copy(from, from + row, &out.rgb[static_cast<std::size_t>(((top + y) * width + left) * 3)]);
  }
  return out;
}

}  // namespace

ImageProcessor::ImageProcessor(const plugin::Config& config) {
  size_ = config.integers("size", {224, 224}, 1, 16384);
  resize_ = config.choice("resize", {"shortest", "exact", "none", "letterbox"});
  crop_pct_ = config.number("crop_pct", 1.0, resize_ == "letterbox" ? 1.0 : 0.01, 1.0);
  fill_ = config.integer("fill", 114, 0, 255);
  filter_ = config.choice("interpolation", {"bicubic", "bilinear"}) == "bicubic" ? Filter::bicubic : Filter::bilinear;
  mean_ = config.numbers("mean", {0, 0, 0}, -1e6, 1e6);
  std_ = config.numbers("std", {1, 1, 1}, 1e-6, 1e6);
  channels_first_ = config.choice("layout", {"channels_first", "channels_last"}) == "channels_first";
  output_ = config.text("output", "image");
  max_pixels_ = config.integer("max_pixels", std::int64_t{1} << 26, 1, std::int64_t{1} << 32);
}

Image ImageProcessor::read(const plugin::Inputs& inputs) const {
  if (inputs.size() != 1) {
    plugin::invalid("image: expected one input, a file's bytes or pixels; got " + std::to_string(inputs.size()));
  }
  return read_image(inputs[0], max_pixels_, kind);
}

void ImageProcessor::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  Image image = read(inputs);
  const std::int64_t original[2] = {image.height, image.width};
  std::int64_t height = image.height;  // of the whole resized image, of which the window is kept
  std::int64_t width = image.width;
  Window window{0, 0, size_[0], size_[1]};
  if (resize_ == "none") {
    window = {0, 0, height, width};
  } else if (resize_ == "exact") {
    height = uncropped(size_[0], crop_pct_);
    width = uncropped(size_[1], crop_pct_);
  } else if (resize_ == "letterbox") {
    const double scale = std::min(static_cast<double>(size_[0]) / static_cast<double>(height),
                                  static_cast<double>(size_[1]) / static_cast<double>(width));
    height = fitted(height, scale, size_[0]);
    width = fitted(width, scale, size_[1]);
  } else {
    // The smallest scale, aspect kept, that covers both sides; the other side is cut down to a whole number.
    const std::int64_t target_height = uncropped(size_[0], crop_pct_);
    const std::int64_t target_width = uncropped(size_[1], crop_pct_);
    if (height * target_width <= width * target_height) {
      width = std::max(target_width, width * target_height / height);
      height = target_height;
    } else {
      height = std::max(target_height, height * target_width / width);
      width = target_width;
    }
  }
  if (resize_ == "letterbox") {
    image = framed(vision::resize(image, height, width, filter_, {0, 0, height, width}), size_[0], size_[1],
                   static_cast<std::uint8_t>(fill_));
    window.top = -((size_[0] - height) / 2);
    window.left = -((size_[1] - width) / 2);
  } else if (resize_ != "none") {
    window.top = centred(height, size_[0]);
    window.left = centred(width, size_[1]);
    image = vision::resize(image, height, width, filter_, window);
  }

  std::array<std::array<float, 256>, 3> normalised;  // by channel and sample
  for (std::size_t c = 0; c < 3; ++c) {
    for (std::size_t v = 0; v < 256; ++v) {
      normalised[c][v] = static_cast<float>((static_cast<double>(v) / 255.0 - mean_[c]) / std_[c]);
    }
  }
  const std::size_t pixels = static_cast<std::size_t>(window.height * window.width);
  std::vector<float> values(pixels * 3);
  for (std::size_t i = 0; i < pixels; ++i) {
    for (std::size_t c = 0; c < 3; ++c) {
      values[channels_first_ ? c * pixels + i : i * 3 + c] = normalised[c][image.rgb[i * 3 + c]];
    }
  }
  if (channels_first_) {
    emit(output_, std::move(values), {1, 3, window.height, window.width});
  } else {
    emit(output_, std::move(values), {1, window.height, window.width, 3});
  }
  const double scale_y = static_cast<double>(original[0]) / static_cast<double>(height);
  const double scale_x = static_cast<double>(original[1]) / static_cast<double>(width);
  emit("image_size", std::vector<std::int64_t>{original[0], original[1]}, {2});
  emit("image_transform",
       std::vector<double>{scale_x, scale_y, static_cast<double>(window.left) * scale_x,
                           static_cast<double>(window.top) * scale_y},
       {4});
}

}  // namespace mambasdk::vision
