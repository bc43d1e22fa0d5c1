#include "processors.hpp"

#include <algorithm>
#include <cmath>

#include "resample.hpp"

namespace mambasdk::audio {

namespace {

constexpr std::int64_t kMaxFrames = 1 << 24;
constexpr std::int64_t kMaxValues = 1 << 28;  // of a result
constexpr std::int64_t kMaxGrowth = 64;       // samples that resampling makes of one

using plugin::invalid;

std::int64_t rate_of(const TensorView& tensor) {
  if (tensor.size() != 1) invalid("waveform: the rate must be one integer");
  return tensor.get().dtype.bits == 32 ? tensor.data<std::int32_t>()[0] : tensor.data<std::int64_t>()[0];
}

// f32 (n) or (channels, n) as one channel.
std::vector<float> mono(const TensorView& input, std::int64_t max_samples) {
  const auto shape = input.shape();
  if (shape.size() != 1 && shape.size() != 2) {
    invalid("waveform: expected u8 (n), a WAV file, or f32 (n) or (channels, n), samples; got " +
            std::to_string(shape.size()) + " dims");
  }
  const auto samples = input.data<float>();  // (channels, n)
  check_length(shape.back(), max_samples);
  const auto n = static_cast<std::size_t>(shape.back());
  const std::size_t channels = shape.size() == 2 ? static_cast<std::size_t>(shape[0]) : 1;
  if (channels == 0 || channels > static_cast<std::size_t>(kMaxChannels)) {
    invalid("waveform: expected 1 to " + std::to_string(kMaxChannels) + " channels, got " + std::to_string(channels));
  }
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) {
    double sum = 0;
    for (std::size_t c = 0; c < channels; ++c) {
      const float v = samples[c * n + i];
      if (!std::isfinite(v)) {
        invalid("waveform: sample " + std::to_string(i) + " of channel " + std::to_string(c) + " is not finite");
      }
      sum += v;
    }
    out[i] = static_cast<float>(sum / static_cast<double>(channels));
  }
  return out;
}

FbankOptions fbank_options(const plugin::Config& config, std::int64_t rate) {
  FbankOptions o;
  o.rate = rate;
  o.num_mel_bins = config.integer("num_mel_bins", o.num_mel_bins, 1, 4096);
  o.frame_length_ms = config.number("frame_length_ms", o.frame_length_ms, 0.1, 1000.0);
  o.frame_shift_ms = config.number("frame_shift_ms", o.frame_shift_ms, 0.1, 1000.0);
  o.low_freq = config.number("low_freq", o.low_freq, 0.0, 1e6);
  o.high_freq = config.number("high_freq", o.high_freq, -1e6, 1e6);
  o.preemphasis = config.number("preemphasis", o.preemphasis, 0.0, 1.0);
  return o;
}

}  // namespace

WaveformReader::WaveformReader(const plugin::Config& config)
    : rate_(config.integer("rate", 16000, 1, kMaxRate)),
      max_samples_(config.integer("max_samples", 115'200'000, 1, std::int64_t{1} << 40)) {}

std::vector<float> WaveformReader::read(const plugin::Inputs& inputs) const {
  if (inputs.size() < 1 || inputs.size() > 2) {
    invalid("waveform: expected one input, with its rate beside it at most; got " + std::to_string(inputs.size()));
  }
  std::size_t first = 0;
  if (inputs.size() == 2) {
    first = inputs[0].name().ends_with(".rate") || inputs[0].name() == "rate" ? 1 : 0;
    const std::string_view name = inputs[1 - first].name();
    if (!name.ends_with(".rate") && name != "rate") {
      invalid("waveform: input " + std::string(name) + " is unknown; samples may have their rate beside them");
    }
  }
  const TensorView input = inputs[first];
  Waveform wave;
  if (input.get().dtype.code == 1) {  // u8
    if (inputs.size() == 2) invalid("waveform: a WAV file says its rate itself; leave the rate out");
    wave = read_wav(input.bytes(), max_samples_);
  } else {
    wave.rate = inputs.size() == 2 ? rate_of(inputs[1 - first]) : rate_;
    if (wave.rate < 1 || wave.rate > kMaxRate) {
      invalid("waveform: the rate is " + std::to_string(wave.rate) + ", expected 1 to " + std::to_string(kMaxRate) +
              " Hz");
    }
    wave.samples = mono(input, max_samples_);
  }
  const auto n = static_cast<std::int64_t>(wave.samples.size());
  if (rate_ > kMaxGrowth * wave.rate) {
    invalid("waveform: its rate is " + std::to_string(wave.rate) + " Hz and the model's " + std::to_string(rate_) +
            ": more than " + std::to_string(kMaxGrowth) + " times as many samples are not made up");
  }
  check_length((n / wave.rate + 1) * rate_, max_samples_ + rate_ * 2);  // what resampling will make
  return resample(wave.samples, wave.rate, rate_);
}

WaveformProcessor::WaveformProcessor(const plugin::Config& config)
    : reader_(config),
      output_(config.text("output", "waveform")),
      target_length_(config.integer("target_length", 0, 0, reader_.max_samples())) {}

void WaveformProcessor::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  std::vector<float> samples = reader_.read(inputs);
  if (target_length_ > 0) samples.resize(static_cast<std::size_t>(target_length_), 0.0F);
  if (samples.empty()) invalid("waveform: there are no samples");
  const auto n = static_cast<std::int64_t>(samples.size());
  emit(output_, std::move(samples), {1, n});
}

FbankProcessor::FbankProcessor(const plugin::Config& config)
    : reader_(config),
      fbank_(fbank_options(config, reader_.rate())),
      subtract_mean_(config.flag("subtract_mean", true)),
      target_length_(config.integer("target_length", 0, 0, kMaxFrames)),
      mean_(config.number("mean", 0.0, -1e6, 1e6)),
      std_(config.number("std", 0.5, 1e-6, 1e6)),
      output_(config.text("output", "fbank")) {}

void FbankProcessor::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  std::vector<float> samples = reader_.read(inputs);
  const std::int64_t found = fbank_.frames(static_cast<std::int64_t>(samples.size()));
  if (found == 0) {
    invalid("fbank: the input has " + std::to_string(samples.size()) + " samples at " + std::to_string(reader_.rate()) +
            " Hz, expected at least one frame of " + std::to_string(fbank_.frame_length()));
  }
  if (subtract_mean_) {
    double mean = 0;
    for (const float v : samples) mean += v;
    mean /= static_cast<double>(samples.size());
    for (float& v : samples) v = static_cast<float>(v - mean);
  }
  const std::int64_t frames = target_length_ > 0 ? target_length_ : found;
  if (frames > kMaxFrames)
    invalid("fbank: more than " + std::to_string(kMaxFrames) + " frames; cut the input into pieces");
  const std::int64_t bins = fbank_.bins();
  if (frames > kMaxValues / bins) {
    invalid("fbank: " + std::to_string(frames) + " frames of " + std::to_string(bins) + " bins are more than " +
            std::to_string(kMaxValues) + " values; cut the input into pieces");
  }
  std::vector<float> out(static_cast<std::size_t>(frames * bins), 0.0F);  // (frames, bins)
  const auto compute = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      fbank_.frame(samples, t,
                   std::span(out).subspan(static_cast<std::size_t>(t * bins), static_cast<std::size_t>(bins)));
    }
  };
  plugin::parallel_for(inputs.context(), std::min(found, frames), 16, compute);
  for (float& v : out) v = static_cast<float>((v - mean_) / (2.0 * std_));
  emit(output_, std::move(out), {1, frames, bins});
}

}  // namespace mambasdk::audio
