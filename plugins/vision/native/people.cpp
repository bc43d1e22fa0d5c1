#include "people.hpp"

namespace mambasdk::vision {

KeypointSet::KeypointSet(const plugin::Config& config)
    : names(config.strings("names")), skeleton(config.pairs("skeleton", 0, INT32_MAX)) {}

void KeypointSet::check(std::int64_t keypoints, const std::vector<std::array<std::int64_t, 2>>& flip_pairs,
                        std::string_view kind) const {
  const std::string where = std::string(kind) + ": ";
  if (!names.empty() && static_cast<std::int64_t>(names.size()) != keypoints) {
    plugin::invalid(where + std::to_string(names.size()) + " names for " + std::to_string(keypoints) + " keypoints");
  }
  for (const auto* pairs : {&skeleton, &flip_pairs}) {
    for (const auto& [a, b] : *pairs) {
      if (a < keypoints && b < keypoints) continue;
      plugin::invalid(where + (pairs == &skeleton ? "skeleton" : "flip_pairs") + ": the pair " +
                      plugin::to_text(std::array{a, b}) + " is of no two of " + std::to_string(keypoints) +
                      " keypoints");
    }
  }
}

void People::emit(const KeypointSet& set, plugin::Emitter& emit) && {
  const std::size_t people = scores.size();
  const auto each = static_cast<std::size_t>(keypoints);
  plugin::JsonWriter json;
  json.open('{').key("people").open('[');
  for (std::size_t i = 0; i < people; ++i) {
    json.open('{').key("score").number(static_cast<double>(scores[i])).key("box").open('[');
    for (std::size_t k = 0; k < 4; ++k) json.number(static_cast<double>(boxes[i * 4 + k]));
    json.close(']').key("keypoints").open('[');
    for (std::size_t k = 0; k < each; ++k) {
      json.open('[');
      for (std::size_t v = 0; v < 3; ++v) json.number(static_cast<double>(points[(i * each + k) * 3 + v]));
      json.close(']');
    }
    json.close(']').close('}');
  }
  json.close(']').key("names").open('[');
  for (const std::string& name : set.names) json.string(name);
  json.close(']').key("skeleton").open('[');
  for (const auto& [a, b] : set.skeleton) json.open('[').number(a).number(b).close(']');
  json.close(']').close('}');
  emit.json(json.text());
  const auto count = static_cast<std::int64_t>(people);
  emit("keypoints", std::move(points), {count, keypoints, 3});
  emit("boxes", std::move(boxes), {count, 4});
  emit("scores", std::move(scores), {count});
}

}  // namespace mambasdk::vision
