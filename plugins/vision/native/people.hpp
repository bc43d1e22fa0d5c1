// The result of a pose head: keypoints of every person, as JSON and as tensors.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"

namespace mambasdk::vision {

// Names of keypoints and the lines between them; both may be empty.
struct KeypointSet {
  std::vector<std::string> names;
  std::vector<std::array<std::int64_t, 2>> skeleton;

  explicit KeypointSet(const plugin::Config& config);
  // Throws unless names, skeleton and `flip_pairs` fit this number of keypoints. kind: of the head, for errors.
  void check(std::int64_t keypoints, const std::vector<std::array<std::int64_t, 2>>& flip_pairs,
             std::string_view kind) const;
};

struct People {
  std::int64_t keypoints = 0;  // K, of each person
  std::vector<float> points;   // (n, K, 3): x, y in the original image, score
  std::vector<float> boxes;    // (n, 4)
  std::vector<float> scores;   // (n)

  void emit(const KeypointSet& set, plugin::Emitter& emit) &&;
};

}  // namespace mambasdk::vision
