// The head that every kind of classification shares: logits to the best labels with their scores.
// Needs mambasdk_add_plugin(JSON). A plugin derives from it to give it a kind:
//
//   struct ImageClassification : mambasdk::plugin::Classification {
//     static constexpr std::string_view kind = "image_classification";
//     static constexpr std::string_view doc = "…";
//     using Classification::Classification;
//   };
//   registrar.head<mambasdk::plugin::Configured<ImageClassification>>();
#ifndef MAMBASDK_PLUGIN_CLASSIFICATION_HPP_
#define MAMBASDK_PLUGIN_CLASSIFICATION_HPP_

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "mambasdk/plugin/ranking.hpp"

namespace mambasdk {
inline namespace abi1 {
namespace plugin {

// Options: labels (names by index), top_k (default 5), activation ("softmax", "sigmoid", "none"), input (the tensor,
// "logits"). A run may override top_k. Takes f32 (C) or (1, C); emits json {"labels": [{"label", "index", "score"}]},
// best first, equal scores by index, and "scores" f32 (C).
class Classification {
 public:
  static constexpr std::string_view options[] = {"labels", "top_k", "activation", "input"};
  explicit Classification(const Config& config)
      : where_(config.where()),
        labels_(config.strings("labels")),
        top_k_(config.integer("top_k", 5, 1, INT32_MAX)),
        activation_(config.choice("activation", {"softmax", "sigmoid", "none"})),
        input_(config.text("input", "logits")) {}

  void run(const Inputs& inputs, Emitter& emit) {
    const TensorView logits = inputs[input_];
    const auto shape = logits.shape();
    if (shape.empty() || shape.size() > 2 || (shape.size() == 2 && shape[0] != 1) || logits.size() == 0) {
      invalid(where_ + ": " + input_ + ": expected f32 (C) or (1, C), got " + to_text(shape));
    }
    const auto values = logits.data<float>();  // (C)
    if (!labels_.empty() && labels_.size() != values.size()) {
      invalid(where_ + ": " + std::to_string(labels_.size()) + " labels for " + std::to_string(values.size()) +
              " classes; give one per class");
    }
    std::int64_t top_k = top_k_;
    if (inputs.has("options")) {
      top_k = Config(inputs["options"].bytes(), where_, {"top_k"}).integer("top_k", top_k_, 1, INT32_MAX);
    }
    std::vector<float> scores = activated(values, activation_);  // (C)
    JsonWriter json;
    json.open('{').key("labels");
    write_labels(json, scores, best(scores, top_k), labels_);
    json.close('}');
    emit.json(json.text());
    const auto classes = static_cast<std::int64_t>(scores.size());
    emit("scores", std::move(scores), {classes});
  }

 private:
  std::string where_;
  std::vector<std::string> labels_;
  std::int64_t top_k_;
  std::string activation_;
  std::string input_;
};

}  // namespace plugin
}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_PLUGIN_CLASSIFICATION_HPP_
