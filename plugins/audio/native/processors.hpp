// Processor kinds `waveform` and `fbank`: a WAV file or samples to the input of a model.
#pragma once

#include "fbank.hpp"
#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "wav.hpp"

namespace mambasdk::audio {

// What both kinds share. Options: rate (16000, what the model takes), max_samples (115200000, of the input).
// Takes u8 (n), a WAV file; or samples, f32 (n) or (channels, n), at the model's rate or at that of a second input
// named SLOT.rate, i64 or i32 (1). More channels are averaged. Samples that are not finite are refused, and rates from
// which resampling would make more than 64 samples of one.
class WaveformReader {
 public:
  explicit WaveformReader(const plugin::Config& config);
  [[nodiscard]] std::vector<float> read(const plugin::Inputs& inputs) const;  // mono, at rate()
  [[nodiscard]] std::int64_t rate() const { return rate_; }
  [[nodiscard]] std::int64_t max_samples() const { return max_samples_; }

 private:
  std::int64_t rate_;
  std::int64_t max_samples_;
};

// Options besides: output ("waveform"), target_length (0: as it is; else cut or padded with zeros at the end).
// Emits `output` f32 (1, n).
class WaveformProcessor {
 public:
  static constexpr std::string_view kind = "waveform";
  static constexpr std::string_view doc = "WAV bytes, or f32 samples, to mono f32 (1, n) at the model's rate.";
  static constexpr std::string_view options[] = {"rate", "max_samples", "output", "target_length"};
  explicit WaveformProcessor(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  WaveformReader reader_;
  std::string output_;
  std::int64_t target_length_;
};

// Options besides: those of FbankOptions by name; subtract_mean (true: the clip's mean goes first); target_length (0:
// as it is; else frames cut or padded with zeros at the end, before normalisation); mean (0), std (0.5): the result is
// (x - mean) / (2 std); output ("fbank"). Emits `output` f32 (1, frames, bins). Input shorter than one frame is an
// error.
class FbankProcessor {
 public:
  static constexpr std::string_view kind = "fbank";
  static constexpr std::string_view doc = "WAV bytes, or f32 samples, to Kaldi's log-mel filterbank, f32 (1, T, bins).";
  static constexpr std::string_view options[] = {"rate",           "max_samples",   "num_mel_bins", "frame_length_ms",
                                                 "frame_shift_ms", "low_freq",      "high_freq",    "preemphasis",
                                                 "subtract_mean",  "target_length", "mean",         "std",
                                                 "output"};
  explicit FbankProcessor(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  WaveformReader reader_;
  Fbank fbank_;
  bool subtract_mean_;
  std::int64_t target_length_;
  double mean_;
  double std_;
  std::string output_;
};

}  // namespace mambasdk::audio
