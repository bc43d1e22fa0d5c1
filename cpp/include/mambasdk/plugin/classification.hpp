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

#include <cmath>
#include <numeric>

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"

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
    std::vector<float> scores = activated(values);  // (C)
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const std::size_t count = std::min(order.size(), static_cast<std::size_t>(top_k));
    const auto better = [&](std::size_t a, std::size_t b) {  // a score that is no number comes last
      const float x = std::isnan(scores[a]) ? -HUGE_VALF : scores[a];
      const float y = std::isnan(scores[b]) ? -HUGE_VALF : scores[b];
      return x != y ? x > y : a < b;
    };
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(), better);
    JsonWriter json;
    json.open('{').key("labels").open('[');
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t index = order[i];
      json.open('{');
      json.key("index").number(index);
      json.key("label").string(labels_.empty() ? std::to_string(index) : labels_[index]);
      json.key("score").number(static_cast<double>(scores[index]));
      json.close('}');
    }
    json.close(']').close('}');
    emit.json(json.text());
    const auto classes = static_cast<std::int64_t>(scores.size());
    emit("scores", std::move(scores), {classes});
  }

 private:
  [[nodiscard]] std::vector<float> activated(std::span<const float> values) const {
    std::vector<float> out(values.begin(), values.end());
    if (activation_ == "sigmoid") {
      for (float& v : out) v = static_cast<float>(1.0 / (1.0 + std::exp(-static_cast<double>(v))));
    } else if (activation_ == "softmax") {
      const double largest = *std::max_element(out.begin(), out.end());
      double sum = 0;
      for (const float v : out) sum += std::exp(v - largest);
      for (float& v : out) v = static_cast<float>(std::exp(v - largest) / sum);
    }
    return out;
  }

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
