// Online tracking by detection: association by IoU in two rounds, a motion, and the tracks' life cycle.
// mambatrack.md, section 4.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "detections.hpp"
#include "motion.hpp"

namespace mambasdk::tracking {

struct TrackerOptions {
  double score_threshold = 0.2;  // only stronger detections count
  double new_track_score = 0.6;  // an unmatched detection above it begins a track
  double iou_first = 0.3;        // least IoU of the first round: tracked tracks with detections
  double iou_second = 0.1;       // of the second: what is left of them, and lost tracks, with the remaining detections
  // Tracklet patching: an unmatched track goes on by its own predictions, as if they were seen, and lost tracks have
  // the second round. false: lost tracks take part in the first round, and there is no second.
  bool patching = true;
  std::int64_t max_age = 30;       // frames without a match after which a track ends
  std::int64_t min_hits = 1;       // matches in a row that confirm a track; those of frame 1 are confirmed at once
  double duplicate_iou = 1.0;      // of a lost and a tracked track that overlap more, the younger ends; 1: none
  bool class_aware = false;        // only detections of a track's class match it
  bool plus_one = false;           // boxes include their last pixel
  std::int64_t max_tracks = 4096;  // beyond it the longest lost end first
};

struct TrackedBox {
  std::int64_t id;  // from 1, of this tracker alone
  Detection detection;
};

// Copies go on from where the original is.
class Tracker {
 public:
  Tracker(const TrackerOptions& options, std::shared_ptr<Motion> motion)
      : options_(options), motion_(std::move(motion)) {}
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
    MotionState motion;
    Box predicted;
    std::int64_t hits;
    std::int64_t misses;
  };

  void predict();
  void match(Track& track, const Detection& detection) const;
  // Matches tracks to the free detections; fills matched (by track) and takes the detections.
  void associate(std::span<const Detection> detections, const std::vector<std::size_t>& tracks, double least_iou,
                 std::vector<char>& taken, std::vector<char>& matched);
  void age(const std::vector<char>& matched);
  void begin(std::span<const Detection> detections, const std::vector<char>& taken);
  void remove_duplicates();

  TrackerOptions options_;
  std::shared_ptr<Motion> motion_;  // keeps no state of its own
  std::vector<Track> tracks_;       // by id
  std::int64_t frame_ = 0;
  std::int64_t next_id_ = 1;
};

}  // namespace mambasdk::tracking
