#include "tracker.hpp"

#include <algorithm>
#include <limits>
#include <string>

#include "assignment.hpp"
#include "mambasdk/base.hpp"

namespace mambasdk::tracking {

namespace {

// Of the matching of a frame: so much for each detection, and for the frame.
constexpr std::uint64_t kStepsOfDetection = 1 << 16;
constexpr std::uint64_t kStepsOfFrame = 1 << 23;
constexpr std::size_t kMaxPairs = std::size_t{1} << 26;  // of tracks and detections

}  // namespace

void Tracker::reset() {
  tracks_.clear();
  frame_ = 0;
  next_id_ = 1;
}

void Tracker::predict() {
  std::vector<Forecast> forecasts;
  forecasts.reserve(tracks_.size());
  for (Track& track : tracks_) forecasts.push_back({&track.motion, track.status == Status::lost, {}});
  motion_->predict(forecasts);
  for (std::size_t i = 0; i < tracks_.size(); ++i) tracks_[i].predicted = forecasts[i].box;
}

void Tracker::match(Track& track, const Detection& detection) const {
  motion_->observe(track.motion, detection.box);
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
  if (tracks.size() > kMaxPairs / std::max<std::size_t>(free.size(), 1)) {
    throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "tracker",
                "tracker: " + std::to_string(tracks.size()) + " tracks and " + std::to_string(free.size()) +
                    " detections of a frame are more pairs than " + std::to_string(kMaxPairs) +
                    "; lower max_tracks, or filter detections by score");
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
  const std::vector<std::int64_t> column = assign(cost, tracks.size(), free.size(), 1.0 - least_iou,
                                                  std::max(kStepsOfFrame, kStepsOfDetection * free.size()));
  for (std::size_t i = 0; i < tracks.size(); ++i) {
    if (column[i] < 0) continue;
    const std::size_t j = free[static_cast<std::size_t>(column[i])];
    match(tracks_[tracks[i]], detections[j]);
    taken[j] = 1;
    matched[tracks[i]] = 1;
  }
}

void Tracker::age(const std::vector<char>& matched) {
  std::vector<Track> kept;
  kept.reserve(tracks_.size());
  for (std::size_t i = 0; i < tracks_.size(); ++i) {
    Track& track = tracks_[i];
    if (matched[i] == 0) {
      if (track.status == Status::tentative || ++track.misses > options_.max_age) continue;
      track.status = Status::lost;
      if (options_.patching) motion_->go_on(track.motion, track.predicted);
    }
    kept.push_back(std::move(track));
  }
  tracks_ = std::move(kept);
}

void Tracker::begin(std::span<const Detection> detections, const std::vector<char>& taken) {
  for (std::size_t j = 0; j < detections.size(); ++j) {
    if (taken[j] != 0 || !(detections[j].score > options_.new_track_score)) continue;
    const bool confirmed = frame_ == 1 || options_.min_hits <= 1;
    tracks_.push_back({next_id_++, confirmed ? Status::tracked : Status::tentative, detections[j],
                       motion_->start(detections[j].box), detections[j].box, 1, 0});
  }
  while (tracks_.size() > static_cast<std::size_t>(options_.max_tracks)) {
    const auto longest = std::max_element(tracks_.begin(), tracks_.end(),
                                          [](const Track& a, const Track& b) { return a.misses < b.misses; });
    tracks_.erase(longest);
  }
}

// ByteTrack's rule: one object that two tracks follow stays with the older one.
void Tracker::remove_duplicates() {
  if (!(options_.duplicate_iou < 1.0)) return;
  std::vector<char> younger(tracks_.size(), 0);
  const auto box = [](const Track& t) { return t.status == Status::lost ? t.predicted : t.last.box; };
  for (std::size_t i = 0; i < tracks_.size(); ++i) {
    for (std::size_t j = i + 1; j < tracks_.size(); ++j) {
      const bool pair = (tracks_[i].status == Status::lost && tracks_[j].status == Status::tracked) ||
                        (tracks_[i].status == Status::tracked && tracks_[j].status == Status::lost);
      if (pair && iou(box(tracks_[i]), box(tracks_[j]), options_.plus_one) > options_.duplicate_iou) younger[j] = 1;
    }
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < tracks_.size(); ++i) {
    if (younger[i] != 0) continue;
    if (kept != i) tracks_[kept] = std::move(tracks_[i]);
    ++kept;
  }
  tracks_.erase(tracks_.begin() + static_cast<std::ptrdiff_t>(kept), tracks_.end());
}

std::vector<TrackedBox> Tracker::step(std::span<const Detection> all) {
  ++frame_;
  std::vector<Detection> detections;
  for (const Detection& d : all) {
    if (is_usable(d) && d.score > options_.score_threshold) detections.push_back(d);
  }
  predict();

  std::vector<char> taken(detections.size(), 0);
  std::vector<char> matched(tracks_.size(), 0);
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < tracks_.size(); ++i) {
    if (tracks_[i].status != Status::lost || !options_.patching) chosen.push_back(i);
  }
  associate(detections, chosen, options_.iou_first, taken, matched);
  if (options_.patching) {
    chosen.clear();
    for (std::size_t i = 0; i < tracks_.size(); ++i) {
      if (matched[i] == 0 && tracks_[i].status != Status::tentative) chosen.push_back(i);
    }
    associate(detections, chosen, options_.iou_second, taken, matched);
  }
  age(matched);
  begin(detections, taken);
  remove_duplicates();

  std::vector<TrackedBox> out;
  for (const Track& track : tracks_) {
    if (track.status == Status::tracked) out.push_back({track.id, track.last});
  }
  return out;
}

}  // namespace mambasdk::tracking
