#include "detections.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>

#include "mambasdk/base.hpp"

namespace mambasdk::tracking {

namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

[[noreturn]] void bad_line(std::size_t line, const char* what) {
  throw Error(
      MAMBASDK_ERROR_CORRUPT, "detections",
      "detections: line " + std::to_string(line) + ": " + what + ", expected frame,id,left,top,width,height,score");
}

// The number before the next comma, which is taken off `rest`. False where the line has ended.
bool next_number(std::string_view& rest, bool& more, std::size_t line, double& value) {
  if (!more) return false;
  const std::size_t comma = rest.find(',');
  std::string_view field = trimmed(rest.substr(0, comma));
  more = comma != std::string_view::npos;
  rest.remove_prefix(more ? comma + 1 : rest.size());
  if (field.starts_with('+')) field.remove_prefix(1);
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error == std::errc::result_out_of_range) bad_line(line, "a number is out of range");
  if (field.empty() || error != std::errc() || end != field.data() + field.size()) bad_line(line, "bad number");
  return true;
}

}  // namespace

bool is_representable(double value) {
  return std::abs(value) <= std::numeric_limits<float>::max();
}

bool is_usable(const Detection& d) {
  const bool finite = is_representable(d.box.x1) && is_representable(d.box.y1) && is_representable(d.box.x2) &&
                      is_representable(d.box.y2) && is_representable(d.score);
  return finite && d.box.x2 > d.box.x1 && d.box.y2 > d.box.y1;
}

double iou(const Box& a, const Box& b, bool plus_one) {
  const double one = plus_one ? 1.0 : 0.0;
  const double width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1) + one;
  const double height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1) + one;
  if (!(width > 0.0 && height > 0.0)) return 0.0;
  const double common = width * height;
  const double total = (a.x2 - a.x1 + one) * (a.y2 - a.y1 + one) + (b.x2 - b.x1 + one) * (b.y2 - b.y1 + one);
  return common / (total - common);
}

std::vector<FramedDetection> read_mot(std::string_view text, std::int64_t max_frames, std::int64_t& frame_count) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  constexpr double kNoScore = -1.0;
  std::vector<FramedDetection> out;
  bool negative_scores = false;  // other ones: some detectors have them
  frame_count = 0;
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  for (std::size_t line = 1; !text.empty(); ++line) {
    const std::size_t end = text.find('\n');
    std::string_view rest = trimmed(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (rest.empty() || rest.front() == '#') continue;
    double value[7];
    std::size_t count = 0;
    bool more = true;
    while (count < 7 && next_number(rest, more, line, value[count])) ++count;
    if (count < 6) bad_line(line, "too few numbers");
    if (!(value[0] >= 1.0) || value[0] != std::floor(value[0])) bad_line(line, "frames are whole numbers from 1");
    if (!std::all_of(value + 2, value + count, is_representable)) {
      bad_line(line, "a number is not finite, or beyond float32");
    }
    if (value[0] > static_cast<double>(max_frames)) {
      throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "detections",
                  "detections: line " + std::to_string(line) + ": its frame is beyond " + std::to_string(max_frames) +
                      "; raise max_frames or cut the sequence into pieces");
    }
    const auto frame = static_cast<std::int64_t>(value[0]) - 1;
    frame_count = std::max(frame_count, frame + 1);
    const Detection d{{value[2], value[3], value[2] + value[4], value[3] + value[5]}, count == 7 ? value[6] : 1.0, 0};
    negative_scores = negative_scores || (d.score < 0.0 && d.score != kNoScore);
    if (is_usable(d)) out.push_back({frame, d});
  }
  for (FramedDetection& f : out) {
    if (!negative_scores && f.detection.score == kNoScore) f.detection.score = 1.0;
  }
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.frame < b.frame; });
  return out;
}

}  // namespace mambasdk::tracking
