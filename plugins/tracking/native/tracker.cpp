#include "tracker.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "assignment.hpp"

namespace mambasdk::tracking {

namespace {

Vector4 measurement_of(const Box& b) {
  const double width = b.x2 - b.x1;
  const double height = b.y2 - b.y1;
  return {b.x1 + width / 2.0, b.y1 + height / 2.0, width / height, height};
}

// Sides are at least one pixel: a long prediction may shrink a box to nothing.
Box box_of(const Vector8& mean) {
  const double height = std::max(mean[3], 1.0);
  const double width = std::max(mean[2] * height, 1.0);
  return {mean[0] - width / 2.0, mean[1] - height / 2.0, mean[0] + width / 2.0, mean[1] + height / 2.0};
}

}  // namespace

void Tracker::reset() {
  tracks_.clear();
  frame_ = 0;
  next_id_ = 1;
}

void Tracker::predict(Track& track) const {
  if (!options_.motion) {
    track.predicted = track.last.box;
    return;
  }
  if (track.status == Status::lost) track.motion.mean[7] = 0.0;  // an unseen box does not go on growing
  kalman_predict(track.motion);
  track.predicted = box_of(track.motion.mean);
}

void Tracker::match(Track& track, const Detection& detection) const {
  kalman_update(track.motion, measurement_of(detection.box));
  track.last = detection;
  track.misses = 0;
  ++track.hits;
  if (track.status == Status::lost || track.hits >= options_.min_hits) track.status = Status::tracked;
}

void Tracker::associate(std::span<const Detection> detections, const std::vector<std::size_t>& tracks, double least_iou,
                        std::vector<char>& taken, std::vector<char>& matched) {
  std::vector<std::size_t> free;
  for (std::size_t j = 0; j < detections.size(); ++j) {
    if (taken[j] == 0) free.push_back(j);
  }
  std::vector<double> cost(tracks.size() * free.size());  // (tracks, free)
  for (std::size_t i = 0; i < tracks.size(); ++i) {
    const Track& track = tracks_[tracks[i]];
    for (std::size_t j = 0; j < free.size(); ++j) {
      const Detection& d = detections[free[j]];
      const double overlap = iou(track.predicted, d.box, options_.plus_one);
      const bool allowed = !options_.class_aware || d.class_id == track.last.class_id;
      // Boxes that do not touch never match, whatever the limit.
      cost[i * free.size() + j] = allowed && overlap > 0.0 ? 1.0 - overlap : std::numeric_limits<double>::infinity();
    }
  }
  const std::vector<std::int64_t> column = assign(cost, tracks.size(), free.size(), 1.0 - least_iou);
  for (std::size_t i = 0; i < tracks.size(); ++i) {
    if (column[i] < 0) continue;
    const std::size_t j = free[static_cast<std::size_t>(column[i])];
    match(tracks_[tracks[i]], detections[j]);
    taken[j] = 1;
    matched[tracks[i]] = 1;
  }
}

std::vector<TrackedBox> Tracker::step(std::span<const Detection> all) {
  ++frame_;
  std::vector<Detection> detections;
  for (const Detection& d : all) {
    if (is_usable(d) && d.score >= options_.score_threshold) detections.push_back(d);
  }
  for (Track& track : tracks_) predict(track);

  std::vector<char> taken(detections.size(), 0);
  std::vector<char> matched(tracks_.size(), 0);
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < tracks_.size(); ++i) {
    if (tracks_[i].status != Status::lost) chosen.push_back(i);
  }
  associate(detections, chosen, options_.iou_first, taken, matched);
  chosen.clear();
  for (std::size_t i = 0; i < tracks_.size(); ++i) {
    if (matched[i] == 0 && tracks_[i].status != Status::tentative) chosen.push_back(i);
  }
  associate(detections, chosen, options_.iou_second, taken, matched);

  std::vector<Track> kept;
  for (std::size_t i = 0; i < tracks_.size(); ++i) {
    Track& track = tracks_[i];
    if (matched[i] == 0) {
      if (track.status == Status::tentative || ++track.misses > options_.max_age) continue;
      track.status = Status::lost;
    }
    kept.push_back(track);
  }
  tracks_ = std::move(kept);
  for (std::size_t j = 0; j < detections.size(); ++j) {
    if (taken[j] != 0 || !(detections[j].score > options_.new_track_score)) continue;
    const bool confirmed = frame_ == 1 || options_.min_hits <= 1;
    tracks_.push_back({next_id_++, confirmed ? Status::tracked : Status::tentative, detections[j],
                       kalman_start(measurement_of(detections[j].box)), detections[j].box, 1, 0});
  }
  while (tracks_.size() > static_cast<std::size_t>(options_.max_tracks)) {
    const auto longest = std::max_element(tracks_.begin(), tracks_.end(),
                                          [](const Track& a, const Track& b) { return a.misses < b.misses; });
    tracks_.erase(longest);
  }
  std::vector<TrackedBox> out;
  for (const Track& track : tracks_) {
    if (track.status == Status::tracked) out.push_back({track.id, track.last});
  }
  return out;
}

}  // namespace mambasdk::tracking
