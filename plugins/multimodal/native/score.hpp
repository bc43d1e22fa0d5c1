// Head kind `multimodal_lm`: what a sequence of several modalities costs, by modality.
#pragma once

#include <optional>

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "modalities.hpp"

namespace mambasdk::multimodal {

// Takes `tokens` i32 (1, L), as the processors `multimodal` and those of text make them, and latents and times of a
// model that reads them. Emits json {"tokens", "bits_per_token", "modalities": [{"modality", "tokens",
// "bits_per_token"}]}: of all tokens but the first the mean of -log2 of the probability that the model gives them after
// those before, and the same of each modality's. Of the tokens that stand for latent vectors the first of each image
// counts. bits_per_token is null where there is no token.
// The package's processor of kind `multimodal` says which ids are whose.
class Score {
 public:
  static constexpr std::string_view kind = "multimodal_lm";
  static constexpr std::string_view doc = "Bits for each token of a document, by modality.";
  static constexpr std::string_view options[] = {"context"};  // tokens that go through the model at once (512)
  explicit Score(const plugin::Config& config) : context_(context_of(config, 512)) {}
  void attach(plugin::Model& model);
  void run(plugin::Model& model, const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  static std::int64_t context_of(const plugin::Config& config, std::int64_t otherwise);

  std::int64_t context_;
  std::optional<Modalities> modalities_;
  bool has_latents_ = false;
};

}  // namespace mambasdk::multimodal
