#include "bottom_up_head.hpp"

#include <algorithm>
#include <cmath>

#include "affine.hpp"

namespace mambasdk::vision {

namespace {

constexpr std::int64_t kReach = 2;  // of the window about a centre: 5 x 5 pixels

[[noreturn]] void bad_shape(const std::string& name, const std::string& expected, std::span<const std::int64_t> shape) {
  plugin::invalid("bottom_up_pose: " + name + ": expected " + expected + ", got " + plugin::to_text(shape));
}

struct Map {
  std::span<const float> values;
  std::int64_t height, width;

  [[nodiscard]] float at(std::int64_t y, std::int64_t x) const {
    return values[static_cast<std::size_t>(y * width + x)];
  }
  // Bilinear; beyond the edge as at the edge. 0 where the value there, or the point, is no number.
  [[nodiscard]] double sample(double x, double y) const {
    if (!std::isfinite(x) || !std::isfinite(y)) return 0;
    x = std::clamp(x, 0.0, static_cast<double>(width - 1));
    y = std::clamp(y, 0.0, static_cast<double>(height - 1));
    const auto left = static_cast<std::int64_t>(x);
    const auto top = static_cast<std::int64_t>(y);
    const std::int64_t right = std::min(left + 1, width - 1);
    const std::int64_t bottom = std::min(top + 1, height - 1);
    const double u = x - static_cast<double>(left);
    const double v = y - static_cast<double>(top);
    const double value = (1 - v) * ((1 - u) * at(top, left) + u * at(top, right)) +
                         v * ((1 - u) * at(bottom, left) + u * at(bottom, right));
    return std::isfinite(value) ? value : 0;
  }
  [[nodiscard]] bool is_peak(std::int64_t y, std::int64_t x) const {
    const float value = at(y, x);
    for (std::int64_t j = std::max<std::int64_t>(y - kReach, 0); j <= std::min(y + kReach, height - 1); ++j) {
      for (std::int64_t i = std::max<std::int64_t>(x - kReach, 0); i <= std::min(x + kReach, width - 1); ++i) {
        if (at(j, i) > value) return false;
      }
    }
    return std::isfinite(value);
  }
};

struct Person {
  std::vector<double> points;  // (K, 3): x, y in pixels of the map, score
  double score = 0;
  double diagonal = 0;
};

double distance(const Person& a, const Person& b, std::size_t k) {
  return std::hypot(a.points[k * 3] - b.points[k * 3], a.points[k * 3 + 1] - b.points[k * 3 + 1]);
}

// The best first; a person goes that shares more than a third of the keypoints with a kept one.
std::vector<Person> suppressed(std::vector<Person> people, std::size_t keypoints, double share) {
  std::stable_sort(people.begin(), people.end(), [](const Person& a, const Person& b) { return a.score > b.score; });
  std::vector<Person> kept;
  for (Person& person : people) {
    const bool covered = std::any_of(kept.begin(), kept.end(), [&](const Person& better) {
      std::size_t near = 0;
      for (std::size_t k = 0; k < keypoints; ++k) near += distance(better, person, k) < share * better.diagonal ? 1 : 0;
      return near > keypoints / 3;
    });
    if (!covered) kept.push_back(std::move(person));
  }
  return kept;
}

}  // namespace

BottomUpPose::BottomUpPose(const plugin::Config& config)
    : set_(config),
      stride_(config.number("stride", 4, 0.01, 1e4)),
      center_threshold_(config.number("center_threshold", 0.01, -1e30, 1e30)),
      nms_distance_(config.number("nms_distance", 0.05, 0.0, 1e6)),
      max_people_(config.integer("max_people", 30, 1, 1000)),
      heatmaps_(config.text("heatmaps", "heatmaps")),
      displacements_(config.text("displacements", "displacements")) {}

void BottomUpPose::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  double threshold = center_threshold_;
  double share = nms_distance_;
  std::int64_t most = max_people_;
  if (inputs.has("options")) {
    const plugin::Config options(inputs["options"].bytes(), kind, {"center_threshold", "nms_distance", "max_people"});
    threshold = options.number("center_threshold", threshold, -1e30, 1e30);
    share = options.number("nms_distance", share, 0.0, 1e6);
    most = options.integer("max_people", most, 1, 1000);
  }
  const TensorView maps = inputs[heatmaps_];
  const auto shape = maps.shape();
  if (shape.size() != 4 || shape[0] != 1 || shape[1] < 2) bad_shape(heatmaps_, "f32 (1, K + 1, h, w)", shape);
  const std::int64_t height = shape[2];
  const std::int64_t width = shape[3];
  const auto keypoints = static_cast<std::size_t>(shape[1] - 1);
  const auto plane = static_cast<std::size_t>(height * width);
  set_.check(shape[1] - 1, {}, kind);
  const TensorView moves = inputs[displacements_];
  const std::array<std::int64_t, 4> wanted{1, 2 * (shape[1] - 1), height, width};
  if (!std::ranges::equal(moves.shape(), wanted)) bad_shape(displacements_, plugin::to_text(wanted), moves.shape());
  const auto values = maps.data<float>();
  const auto displacements = moves.data<float>();
  Affine back;
  if (inputs.has("affines")) {
    const auto given = inputs["affines"].data<double>();
    if (given.size() != 6) bad_shape("affines", "f64 (1, 6)", inputs["affines"].shape());
    std::copy(given.begin(), given.end(), back.m.begin());
  }

  const Map centres{values.subspan(keypoints * plane, plane), height, width};
  std::vector<std::pair<float, std::size_t>> peaks;  // score, pixel
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      if (centres.at(y, x) > threshold && centres.is_peak(y, x)) {
        peaks.emplace_back(centres.at(y, x), static_cast<std::size_t>(y * width + x));
      }
    }
  }
  std::stable_sort(peaks.begin(), peaks.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  if (peaks.size() > static_cast<std::size_t>(most)) peaks.resize(static_cast<std::size_t>(most));

  std::vector<Person> people;
  for (const auto& [score, pixel] : peaks) {
    Person person;
    std::array<double, 4> box{HUGE_VAL, HUGE_VAL, -HUGE_VAL, -HUGE_VAL};
    bool finite = true;
    for (std::size_t k = 0; k < keypoints; ++k) {
      const double x =
          static_cast<double>(pixel % static_cast<std::size_t>(width)) + displacements[2 * k * plane + pixel];
      const double y =
          static_cast<double>(pixel / static_cast<std::size_t>(width)) + displacements[(2 * k + 1) * plane + pixel];
      const Map map{values.subspan(k * plane, plane), height, width};
      const double own = map.sample(x, y) * static_cast<double>(score);
      person.points.insert(person.points.end(), {x, y, own});
      person.score += own / static_cast<double>(keypoints);
      box = {std::min(box[0], x), std::min(box[1], y), std::max(box[2], x), std::max(box[3], y)};
      finite = finite && std::isfinite(x) && std::isfinite(y);
    }
    person.diagonal = std::hypot(box[2] - box[0], box[3] - box[1]);
    if (finite) people.push_back(std::move(person));
  }

  People out{.keypoints = static_cast<std::int64_t>(keypoints), .points = {}, .boxes = {}, .scores = {}};
  for (const Person& person : suppressed(std::move(people), keypoints, share)) {
    std::array<double, 4> box{HUGE_VAL, HUGE_VAL, -HUGE_VAL, -HUGE_VAL};
    for (std::size_t k = 0; k < keypoints; ++k) {
      const auto [x, y] = back(person.points[k * 3] * stride_, person.points[k * 3 + 1] * stride_);
      for (const double v : {x, y, person.points[k * 3 + 2]}) out.points.push_back(static_cast<float>(v));
      box = {std::min(box[0], x), std::min(box[1], y), std::max(box[2], x), std::max(box[3], y)};
    }
    for (const double v : box) out.boxes.push_back(static_cast<float>(v));
    out.scores.push_back(static_cast<float>(person.score));
  }
  std::move(out).emit(set_, emit);
}

}  // namespace mambasdk::vision
