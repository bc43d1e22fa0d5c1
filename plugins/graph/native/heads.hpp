// Head kinds `graph_classification` and `node_classification`.
#pragma once

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/classification.hpp"

namespace mambasdk::graph {

// Options and results: plugin::Classification. A graph's `logits` f32 (1, C) to its best labels.
struct GraphClassification : plugin::Classification {
  static constexpr std::string_view kind = "graph_classification";
  static constexpr std::string_view doc = "Logits of a graph to its best labels.";
  using Classification::Classification;
};

// Options: labels (names by index), activation ("softmax", "sigmoid", "none"), input ("logits"). Takes `input` f32
// (N, C). Emits json {"nodes": [{"node", "label", "index", "score"}]}, each node's best label, equal scores by index;
// and "scores" f32 (N, C). One logit with activation "sigmoid" is the second of two classes.
class NodeClassification {
 public:
  static constexpr std::string_view kind = "node_classification";
  static constexpr std::string_view doc = "Logits of nodes to each node's best label.";
  static constexpr std::string_view options[] = {"labels", "activation", "input"};
  explicit NodeClassification(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  void activate(std::span<float> row) const;
  std::vector<std::string> labels_;
  std::string activation_;
  std::string input_;
};

}  // namespace mambasdk::graph
