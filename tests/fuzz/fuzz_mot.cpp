// Any bytes as MOTChallenge text: an Error, or detections in order, which the tracker takes with every motion.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "detections.hpp"
#include "mambasdk/base.hpp"
#include "seeds.hpp"
#include "tracker.hpp"

namespace tracking = mambasdk::tracking;

// Boxes of two frames that all overlap.
static std::string crowd(int boxes) {
  std::string text;
  for (int i = 0; i < 2 * boxes; ++i) {
    text += std::to_string(i / boxes + 1) + ",-1," + std::to_string(i % 7) + "," + std::to_string(i % 5) + ",50,50,0." +
            std::to_string(7 + i % 3) + "\n";
  }
  return text;
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(
      *argc, *argv,
      {"1,-1,10,20,30,40,0.9\n2,-1,11,20,30,40,0.8,-1,-1,-1\r\n", "3,7,1e2,.5,1,1",
       "\xef\xbb\xbf# frame,id\n1,-1,10,20,30,40,-1\n2,-1,10,20,30,40,-1", "1,1,1e39,0,1,1,nan", crowd(60)});
  return 0;
}

namespace {

// 0: none, 1: Kalman filter, 2: a model that repeats the last delta.
std::unique_ptr<tracking::Motion> motion(int kind) {
  if (kind == 0) return tracking::make_still_motion();
  if (kind == 1) return tracking::make_kalman_motion();
  const tracking::DeltaModelOptions options{.window = 4, .min_history = 2, .width = 640.0, .height = 480.0};
  return tracking::make_model_motion(
      [](std::span<const float> deltas, std::int64_t tracks, std::int64_t length) {
        if (deltas.size() != static_cast<std::size_t>(tracks * length * 4) || length > 4) std::abort();
        std::vector<float> last;
        for (std::int64_t n = 1; n <= tracks; ++n) {
          const auto row = deltas.subspan(static_cast<std::size_t>((n * length - 1) * 4), 4);
          last.insert(last.end(), row.begin(), row.end());
        }
        return last;
      },
      std::make_shared<tracking::DeltaModelOptions>(options));
}

void track(const std::vector<tracking::FramedDetection>& found, std::int64_t frame_count,
           std::unique_ptr<tracking::Motion> motion) {
  tracking::Tracker tracker({.duplicate_iou = 0.9}, std::move(motion));
  std::size_t at = 0;
  for (std::int64_t frame = 0; frame < frame_count; ++frame) {
    std::vector<tracking::Detection> detections;
    for (; at < found.size() && found[at].frame == frame; ++at) detections.push_back(found[at].detection);
    if (tracker.step(detections).size() > detections.size()) std::abort();
  }
  if (at != found.size()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::int64_t kMaxFrames = 64;
  try {
    std::int64_t frame_count = 0;
    const auto found = tracking::read_mot({reinterpret_cast<const char*>(data), size}, kMaxFrames, frame_count);
    if (frame_count > kMaxFrames) std::abort();
    for (int kind = 0; kind < 3; ++kind) track(found, frame_count, motion(kind));
  } catch (const mambasdk::Error&) {
  }
  return 0;
}
