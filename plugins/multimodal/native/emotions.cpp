#include "emotions.hpp"

#include <algorithm>

#include "mambasdk/plugin/json.hpp"
#include "mambasdk/plugin/ranking.hpp"

namespace mambasdk::multimodal {

namespace {

// A contiguous tensor (1, L, width) as rows.
struct Rows {
  std::span<const float> data;
  std::size_t width;
  std::size_t length;

  Rows(const plugin::Inputs& inputs, const char* name) {
    const TensorView tensor = inputs[name];
    const auto shape = tensor.shape();
    if (shape.size() != 3 || shape[0] != 1 || shape[2] < 1) {
      plugin::invalid(std::string("emotion_recognition: ") + name + ": expected f32 (1, L, C), got " +
                      plugin::to_text(shape));
    }
    data = tensor.data<float>();
    length = static_cast<std::size_t>(shape[1]);
    width = static_cast<std::size_t>(shape[2]);
  }
  [[nodiscard]] std::span<const float> operator[](std::size_t row) const { return data.subspan(row * width, width); }
};

std::vector<std::string> names_of(const std::vector<std::string>& given, std::size_t count, const char* what) {
  if (given.empty()) {
    std::vector<std::string> numbers;
    for (std::size_t i = 0; i < count; ++i) numbers.push_back(std::to_string(i));
    return numbers;
  }
  if (given.size() != count) {
    plugin::invalid(std::string("emotion_recognition: ") + what + ": " + std::to_string(given.size()) +
                    " names, the model has " + std::to_string(count));
  }
  return given;
}

void write_named(plugin::JsonWriter& to, const std::vector<std::string>& names, std::span<const float> values) {
  to.open('{');
  for (std::size_t i = 0; i < names.size(); ++i) to.key(names[i]).number(static_cast<double>(values[i]));
  to.close('}');
}

}  // namespace

void EmotionRecognition::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  if (inputs.has("options")) plugin::Config(inputs["options"].bytes(), kind, {});  // a run has none
  const Rows logits(inputs, "logits"), weights(inputs, "weights");
  if (weights.length != logits.length) plugin::invalid("emotion_recognition: weights and logits differ in length");
  const std::vector<std::string> labels = names_of(labels_, logits.width, "labels");
  const std::vector<std::string> modalities = names_of(modalities_, weights.width, "modalities");
  std::span<const std::int64_t> speakers;
  if (inputs.has("speakers")) speakers = inputs["speakers"].data<std::int64_t>();
  if (!speakers.empty() && speakers.size() != logits.length) {
    plugin::invalid("emotion_recognition: speakers and logits differ in length");
  }
  std::vector<float> scores;
  scores.reserve(logits.data.size());
  plugin::JsonWriter said;
  said.open('{').key("utterances").open('[');
  for (std::size_t u = 0; u < logits.length; ++u) {
    const std::vector<float> row = plugin::activated(logits[u], "softmax");
    const std::size_t best = plugin::best(row, 1).front();
    scores.insert(scores.end(), row.begin(), row.end());
    said.open('{').key("index").number(best);
    said.key("label").string(labels[best]);
    said.key("score").number(static_cast<double>(row[best]));
    said.key("scores");
    write_named(said, labels, row);
    if (!speakers.empty()) said.key("speaker").number(speakers[u]);
    said.key("utterance").number(u);
    said.key("weights");
    write_named(said, modalities, weights[u]);
    said.close('}');
  }
  said.close(']').close('}');
  emit.json(said.text());
  const auto length = static_cast<std::int64_t>(logits.length);
  emit("scores", std::move(scores), {1, length, static_cast<std::int64_t>(logits.width)});
}

}  // namespace mambasdk::multimodal
