// Processor kind `multimodal`: a document of several modalities to the tokens of a model.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "modalities.hpp"

namespace mambasdk::multimodal {

// A document as a model takes it. latents: latent_dim numbers for each token, zero where it stands for none.
struct DocumentTokens {
  std::vector<std::int32_t> tokens;
  std::vector<float> latents;
};

// Of a document's JSON (see Document); without a tokenizer a token of text is a byte. Throws Error.
[[nodiscard]] DocumentTokens read_document(std::string_view text, const Modalities& modalities, std::int64_t latent_dim,
                                           const Tokenizer* tokenizer);

// Takes `document` u8, JSON:
//   {"segments": [{"modality": "text", "text": "a cat"}, {"modality": "image", "tokens": [3, 0, 7]},
//                 {"modality": "image", "latents": [[0.5, 1.5], [0.1, 0.2]]}], "name": …}
// Tokens are numbers within their modality, from 0 on; a text is encoded by the tokenizer.
//
// Options: modalities (names), ranges (the id at which each one's tokens end), latent_dim (0; numbers of a latent
// vector of the last modality), file (a tokenizer.json; without it a token of text is a byte); alternative_to is the
// pipeline's.
// Emits tokens i32 (1, L) and, with latent_dim P, latents f32 (1, L, P), zero where there is none, and times f32 (1, L)
// of zeros: there is no noise in them.
class Document {
 public:
  static constexpr std::string_view kind = "multimodal";
  static constexpr std::string_view doc = "A document's text, tokens and latent vectors to one sequence of tokens.";
  static constexpr std::string_view options[] = {"modalities", "ranges", "latent_dim", "file", "alternative_to"};
  Document(std::string_view config, std::string_view directory)
      : Document(plugin::Config(config, kind, options), directory) {}
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  Document(const plugin::Config& config, std::string_view directory);

  Modalities modalities_;
  std::int64_t latent_dim_;
  std::unique_ptr<Tokenizer> tokenizer_;  // null: bytes
};

}  // namespace mambasdk::multimodal
