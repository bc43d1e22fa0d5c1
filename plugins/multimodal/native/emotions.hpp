// Head kind `emotion_recognition`: logits of utterances to emotions.
#pragma once

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"

namespace mambasdk::multimodal {

// Options: labels (names by class), modalities (names). Takes logits f32 (1, L, C), weights f32 (1, L, M) and, where
// there are any, speakers i64 (1, L). Emits json {"utterances": [{"index", "label", "score", "scores": {label: …},
// "speaker", "utterance", "weights": {modality: …}}]}, equal scores by index, and "scores" f32 (1, L, C).
class EmotionRecognition {
 public:
  static constexpr std::string_view kind = "emotion_recognition";
  static constexpr std::string_view doc = "Logits of a conversation's utterances to emotions, with modality weights.";
  static constexpr std::string_view options[] = {"labels", "modalities"};
  explicit EmotionRecognition(const plugin::Config& config)
      : labels_(config.strings("labels")), modalities_(config.strings("modalities")) {}
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  std::vector<std::string> labels_;
  std::vector<std::string> modalities_;
};

}  // namespace mambasdk::multimodal
