// The power spectrum of a real signal whose length is a power of two.
#pragma once

#include <span>
#include <vector>

namespace mambasdk::audio {

// |FFT(x)|^2 of bins 0 to x.size() / 2; x.size() is a power of two, at least 2.
[[nodiscard]] std::vector<double> power_spectrum(std::span<const double> x);

}  // namespace mambasdk::audio
