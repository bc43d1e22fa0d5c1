// Any bytes as an image file: an Error, or an upright image whose pixels can be resized; and as a mask.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "image.hpp"
#include "mambasdk/base.hpp"
#include "resize.hpp"
#include "seeds.hpp"

namespace vision = mambasdk::vision;

static std::string bytes(const char* hex) {
  std::string out;
  for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
    out += static_cast<char>(std::stoi(std::string(hex, 2), nullptr, 16));
  }
  return out;
}

// A gray PNG; an RGB one, and a gray JPEG, each with an orientation; a PNG that claims more pixels than it can hold.
static std::vector<std::string> seeds() {
  return {bytes("89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63f00500004f00"
                "4e698b016c0000000049454e44ae426082"),
          bytes("89504e470d0a1a0a0000000d49484452000000090000000508020000001831513c0000001a655849664d4d002a0000000800"
                "0101120003000000010006000000000000d6674b690000001449444154789c633c21e7cb800330e192a0911c00a941013dce"
                "7332cd0000000049454e44ae426082"),
          bytes("ffd8ffe000104a46494600010100000100010000ffe100224578696600004d4d002a00000008000101120003000000010006"
                "000000000000ffdb004300ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
                "ffffffffffffffffffffffffffffffffffffffffffffffffffffc0000b080002000301011100ffc400140001000000000000"
                "00000000000000000002ffc40014100100000000000000000000000000000000ffda0008010100003f002fffd9"),
          bytes("89504e470d0a1a0a0000000d49484452000020000000200008000000003a7e9b550000000a49444154789c63f00500004f00"
                "4e698b016c0000000049454e44ae426082")};
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(*argc, *argv, seeds());
  return 0;
}

static constexpr std::int64_t kMaxPixels = 1 << 16;

static void read_mask(std::string_view file) {
  try {
    const vision::Mask mask = vision::decode_mask(file, kMaxPixels);
    if (mask.indices.size() != static_cast<std::size_t>(mask.height * mask.width)) std::abort();
  } catch (const mambasdk::Error&) {
  } catch (const std::bad_alloc&) {
  }
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  read_mask({reinterpret_cast<const char*>(data), size});
  try {
    const vision::Image image = vision::decode_image({reinterpret_cast<const char*>(data), size}, kMaxPixels);
    if (image.height * image.width > kMaxPixels) std::abort();
    if (image.rgb.size() != static_cast<std::size_t>(image.height * image.width * 3)) std::abort();
    for (const vision::Filter filter : {vision::Filter::bicubic, vision::Filter::bilinear}) {
      const vision::Image small = vision::resize(image, 9, 7, filter, {1, 1, 7, 5});
      if (small.rgb.size() != std::size_t{7 * 5 * 3}) std::abort();
      const vision::Image large = vision::resize(image, image.height * 3, 31, filter, {image.height, 0, 2, 31});
      if (large.rgb.size() != std::size_t{2 * 31 * 3}) std::abort();
    }
  } catch (const mambasdk::Error&) {
  } catch (const std::bad_alloc&) {
  }
  return 0;
}
