#include "heads.hpp"

#include <algorithm>
#include <cmath>

namespace mambasdk::graph {

NodeClassification::NodeClassification(const plugin::Config& config)
    : labels_(config.strings("labels")),
      activation_(config.choice("activation", {"softmax", "sigmoid", "none"})),
      input_(config.text("input", "logits")) {}

void NodeClassification::activate(std::span<float> row) const {
  if (activation_ == "sigmoid") {
    for (float& v : row) v = static_cast<float>(1.0 / (1.0 + std::exp(-static_cast<double>(v))));
  } else if (activation_ == "softmax") {
    const double largest = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (const float v : row) sum += std::exp(v - largest);
    for (float& v : row) v = static_cast<float>(std::exp(v - largest) / sum);
  }
}

void NodeClassification::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  if (inputs.has("options")) plugin::Config(inputs["options"].bytes(), kind, {});  // a run has none
  const TensorView logits = inputs[input_];
  const auto shape = logits.shape();
  if (shape.size() != 2 || shape[1] < 1) {
    plugin::fail(MAMBASDK_ERROR_INVALID_ARGUMENT, "node_classification: " + input_ + ": expected f32 (N, C), got " +
                                                      std::to_string(shape.size()) + " dims");
  }
  const auto given = logits.data<float>();  // (N, C)
  const auto width = static_cast<std::size_t>(shape[1]);
  const bool binary = width == 1 && activation_ == "sigmoid";
  const std::size_t classes = binary ? 2 : width;
  if (!labels_.empty() && labels_.size() != classes) {
    plugin::fail(MAMBASDK_ERROR_INVALID_ARGUMENT, "node_classification: " + std::to_string(labels_.size()) +
                                                      " labels for " + std::to_string(classes) +
                                                      " classes; give one per class");
  }
  std::vector<float> scores(given.begin(), given.end());
  plugin::JsonWriter json;
  json.open('{').key("nodes").open('[');
  for (std::size_t n = 0; n < scores.size() / width; ++n) {
    const std::span<float> row(&scores[n * width], width);
    activate(row);
    std::size_t best = 0;
    float score = row[0];
    if (binary) {
      best = row[0] > 0.5F ? 1 : 0;
      score = best == 1 ? row[0] : 1.0F - row[0];
    } else {
      for (std::size_t c = 1; c < width; ++c) {  // a score that is no number is never the best but for want of another
        if (row[c] > score || (std::isnan(score) && !std::isnan(row[c]))) {
          best = c;
          score = row[c];
        }
      }
    }
    json.open('{');
    json.key("index").number(best);
    json.key("label").string(labels_.empty() ? std::to_string(best) : labels_[best]);
    json.key("node").number(n);
    json.key("score").number(static_cast<double>(score));
    json.close('}');
  }
  json.close(']').close('}');
  emit.json(json.text());
  emit("scores", std::move(scores), {shape[0], shape[1]});
}

}  // namespace mambasdk::graph
