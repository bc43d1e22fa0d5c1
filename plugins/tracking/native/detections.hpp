// Detections of a run of frames, and reading them from MOTChallenge text. Nothing in a text is trusted.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace mambasdk::tracking {

struct Box {
  double x1, y1, x2, y2;
};

struct Detection {
  Box box;
  double score;
  std::int64_t class_id;
};

struct FramedDetection {
  std::int64_t frame;  // from 0
  Detection detection;
};

// Lines `frame,id,left,top,width,height[,score[,…]]` with frames from 1; without a score it is 1, and so where it is
// -1, which stands for none, unless the text has other scores below 0. A byte order mark, empty lines and those that
// begin with # are passed over. Boxes that are empty are left out. Throws Error (corrupt) with the number of a bad
// line, numbers that are not finite in float32 among them; (invalid_argument) for frames beyond max_frames. In order of
// frames, else as in the text.
[[nodiscard]] std::vector<FramedDetection> read_mot(std::string_view text, std::int64_t max_frames,
                                                    std::int64_t& frame_count);

[[nodiscard]] bool is_representable(double value);         // finite, in float32 too
[[nodiscard]] bool is_usable(const Detection& detection);  // a box of positive, finite size, and a finite score
[[nodiscard]] double iou(const Box& a, const Box& b, bool plus_one);

}  // namespace mambasdk::tracking
