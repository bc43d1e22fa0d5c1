// Processor kind `conversation`: the utterances of a conversation to feature vectors by modality.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"

namespace mambasdk::multimodal {

// Takes `conversation` u8, JSON:
//   {"utterances": [{"speaker": "Ann", "features": {"text": [0.1, …], "audio": [0.3, …]}, "text": …, "label": …}],
//    "features": {"visual": [[0.2, …], …]}, "name": …}
// Features of an utterance stand with it, or those of all utterances of a modality in one list; null and what is left
// out is missing. A speaker is a name, numbered by who speaks first, or a number from 0; both in one file are an error,
// and none at all is speaker 0. "text", "label" and "name" are for people.
//
// Options: modalities (names), in_dims (numbers of a vector of each), max_speakers (0; more are an error, 0: any).
// Emits a tensor f32 (1, L, in_dim) for each modality, zero where it is missing, speakers i64 (1, L) and present i64
// (1, L, M), 0 where an utterance lacks a modality.
class Conversation {
 public:
  static constexpr std::string_view kind = "conversation";
  static constexpr std::string_view doc = "A conversation's JSON to feature vectors of its utterances by modality.";
  static constexpr std::string_view options[] = {"modalities", "in_dims", "max_speakers"};
  explicit Conversation(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  std::vector<std::string> modalities_;
  std::vector<std::int64_t> dims_;
  std::int64_t max_speakers_;
};

}  // namespace mambasdk::multimodal
