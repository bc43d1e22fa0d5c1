// Any bytes as a document of several modalities: an Error, or tokens of the modalities and as many latent vectors.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "document.hpp"
#include "seeds.hpp"

namespace multimodal = mambasdk::multimodal;

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(
      *argc, *argv,
      {R"({"segments": [{"modality": "text", "text": "a cat"}, {"modality": "image", "tokens": [3, 0, 7]}]})",
       R"({"segments": [{"modality": "image", "latents": [[0.5, 1.5], [0, 2]]}, {"modality": "text", "tokens": [255]}]})",
       R"({"segments": [], "name": "none"})", R"({"segments": [{"modality": "image", "latents": [[1e39, 0]]}]})",
       R"({"segments": [{"modality": "sound", "tokens": [1]}]})", R"({"segments": [{"modality": "text"}]})",
       std::string(4000, '[')});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const multimodal::Modalities modalities({"text", "image"}, {256, 300});
  for (const std::int64_t dim : {0, 2}) {
    try {
      const multimodal::DocumentTokens made =
          multimodal::read_document({reinterpret_cast<const char*>(data), size}, modalities, dim, nullptr);
      if (made.latents.size() != made.tokens.size() * static_cast<std::size_t>(dim)) std::abort();
      for (const std::int32_t token : made.tokens) {
        if (token < 0 || token >= 300) std::abort();
      }
      for (const float value : made.latents) {
        if (!std::isfinite(value)) std::abort();
      }
    } catch (const mambasdk::Error& error) {
      if (std::string(error.what()).size() > 400) std::abort();  // messages quote, they do not dump
    }
  }
  return 0;
}
