// Kaldi's log-mel filterbank (compute-fbank-feats without dither and energy), as SSAMBA's spec, section 1, has it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mambasdk::audio {

struct FbankOptions {
  std::int64_t rate = 16000;
  std::int64_t num_mel_bins = 128;
  double frame_length_ms = 25.0;
  double frame_shift_ms = 10.0;
  double low_freq = 20.0;
  double high_freq = 0.0;  // 0: half the rate; below 0: counted from there
  double preemphasis = 0.97;
};

class Fbank {
 public:
  explicit Fbank(const FbankOptions& options);

  // Frames that lie wholly inside the samples; 0 where there are fewer than frame_length().
  [[nodiscard]] std::int64_t frames(std::int64_t samples) const;
  [[nodiscard]] std::int64_t frame_length() const { return static_cast<std::int64_t>(window_.size()); }
  [[nodiscard]] std::int64_t bins() const { return static_cast<std::int64_t>(filters_.size()); }
  // Frame `index` of the samples into out: (bins), natural logarithms.
  void frame(std::span<const float> samples, std::int64_t index, std::span<float> out) const;

 private:
  struct Filter {
    std::size_t first;  // FFT bin of the first weight
    std::vector<double> weights;
  };
  FbankOptions options_;
  std::int64_t shift_;
  std::vector<double> window_;
  std::size_t fft_size_;
  std::vector<Filter> filters_;
};

}  // namespace mambasdk::audio
