#include "mask_processor.hpp"

#include "image.hpp"

namespace mambasdk::vision {

MaskProcessor::MaskProcessor(const plugin::Config& config)
    : max_pixels_(config.integer("max_pixels", std::int64_t{1} << 26, 1, std::int64_t{1} << 32)) {}

void MaskProcessor::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  if (inputs.size() != 1 || inputs[0].shape().size() != 1) {
    plugin::invalid("mask: expected one input, u8 (n), the bytes of a PNG file");
  }
  Mask mask = decode_mask(inputs[0].bytes(), max_pixels_);
  emit("mask", std::move(mask.indices), {mask.height, mask.width});
}

}  // namespace mambasdk::vision
