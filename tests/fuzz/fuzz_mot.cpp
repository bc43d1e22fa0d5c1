// Any bytes as MOTChallenge text: an Error, or detections in order, which the tracker takes.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "detections.hpp"
#include "mambasdk/base.hpp"
#include "seeds.hpp"
#include "tracker.hpp"

namespace tracking = mambasdk::tracking;

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(*argc, *argv,
                             {"1,-1,10,20,30,40,0.9\n2,-1,11,20,30,40,0.8,-1,-1,-1\r\n", "3,7,1e2,.5,1,1"});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::int64_t kMaxFrames = 64;
  try {
    std::int64_t frame_count = 0;
    const auto found = tracking::read_mot({reinterpret_cast<const char*>(data), size}, kMaxFrames, frame_count);
    if (frame_count > kMaxFrames) std::abort();
    tracking::Tracker tracker({});
    std::size_t at = 0;
    for (std::int64_t frame = 0; frame < frame_count; ++frame) {
      std::vector<tracking::Detection> detections;
      for (; at < found.size() && found[at].frame == frame; ++at) detections.push_back(found[at].detection);
      if (tracker.step(detections).size() > detections.size()) std::abort();
    }
    if (at != found.size()) std::abort();
  } catch (const mambasdk::Error&) {
  }
  return 0;
}
