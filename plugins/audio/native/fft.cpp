#include "fft.hpp"

#include <cmath>
#include <complex>
#include <numbers>
#include <utility>

namespace mambasdk::audio {

using Complex = std::complex<double>;

namespace {

// e^(-2 pi i k / n), k < n / 2; kept by thread for the size last asked for.
const std::vector<Complex>& roots(std::size_t n) {
  thread_local std::vector<Complex> table;
  if (table.size() != n / 2) {
    table.resize(n / 2);
    for (std::size_t k = 0; k < n / 2; ++k) {
      table[k] = std::polar(1.0, -2.0 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n));
    }
  }
  return table;
}

// In place, decimation in time; the table holds the roots of table_length, a multiple of x.size().
void fft(std::span<Complex> x, const std::vector<Complex>& root, std::size_t table_length) {
  const std::size_t n = x.size();
  for (std::size_t i = 1, j = 0; i < n; ++i) {  // bit reversal
    std::size_t bit = n >> 1;
    for (; (j & bit) != 0; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(x[i], x[j]);
  }
  for (std::size_t length = 2; length <= n; length *= 2) {
    const std::size_t step = table_length / length;
    for (std::size_t begin = 0; begin < n; begin += length) {
      for (std::size_t k = 0; k < length / 2; ++k) {
        const Complex even = x[begin + k];
        const Complex odd = x[begin + k + length / 2] * root[k * step];
        x[begin + k] = even + odd;
        x[begin + k + length / 2] = even - odd;
      }
    }
  }
}

}  // namespace

// The even samples as real and the odd ones as imaginary parts: one transform of half the length.
std::vector<double> power_spectrum(std::span<const double> x) {
  const std::size_t n = x.size();
  const std::size_t half = n / 2;
  const std::vector<Complex>& root = roots(n);
  std::vector<Complex> z(half);
  for (std::size_t i = 0; i < half; ++i) z[i] = {x[2 * i], x[2 * i + 1]};
  fft(z, root, n);
  std::vector<double> power(half + 1);
  for (std::size_t k = 0; k <= half; ++k) {
    const Complex a = z[k % half];
    const Complex b = std::conj(z[(half - k) % half]);
    const Complex turn = k == half ? Complex(-1.0, 0.0) : root[k];
    power[k] = std::norm(0.5 * (a + b) + Complex(0.0, -0.5) * (a - b) * turn);
  }
  return power;
}

}  // namespace mambasdk::audio
