// Online tracking by detection: association by IoU in two rounds, motion by a Kalman filter, and the tracks' life
// cycle. mambatrack.md, sections 4 and 5 (the Kalman baseline).
#pragma once

#include <span>
#include <string>

#include "detections.hpp"
#include "kalman.hpp"

namespace mambasdk::tracking {

struct TrackerOptions {
  double score_threshold = 0.2;  // weaker detections are left out
  double new_track_score = 0.6;  // what an unmatched detection needs to begin a track
  double iou_first = 0.3;        // least IoU of the first round: tracked tracks with detections
  double iou_second = 0.1;       // of the second: what is left of them, and lost tracks, with the remaining detections
  std::int64_t max_age = 30;     // frames without a match after which a track ends
  std::int64_t min_hits = 1;  // matches in a row that confirm a track; those of the first frame are confirmed at once
  bool class_aware = false;   // only detections of a track's class match it
  bool plus_one = false;      // boxes include their last pixel
  bool motion = true;         // false: a track is expected where it was last
  std::int64_t max_tracks = 4096;  // beyond it the longest lost end first
};

struct TrackedBox {
  std::int64_t id;  // from 1, of this tracker alone
  Detection detection;
};

class Tracker {
 public:
  explicit Tracker(const TrackerOptions& options) : options_(options) {}
  // The next frame: the confirmed tracks that it matched, with their detections, by id.
  [[nodiscard]] std::vector<TrackedBox> step(std::span<const Detection> detections);
  [[nodiscard]] std::int64_t frame() const { return frame_; }  // how many frames it has seen
  void reset();

 private:
  enum class Status { tentative, tracked, lost };
  struct Track {
    std::int64_t id;
    Status status;
    Detection last;
    KalmanState motion;
    Box predicted;
    std::int64_t hits;
    std::int64_t misses;
  };

  void predict(Track& track) const;
  void match(Track& track, const Detection& detection) const;
  // Matches tracks to the free detections; fills matched (by track) and takes the detections.
  void associate(std::span<const Detection> detections, const std::vector<std::size_t>& tracks, double least_iou,
                 std::vector<char>& taken, std::vector<char>& matched);

  TrackerOptions options_;
  std::vector<Track> tracks_;  // by id
  std::int64_t frame_ = 0;
  std::int64_t next_id_ = 1;
};

}  // namespace mambasdk::tracking
