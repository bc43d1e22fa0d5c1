#include "ops/attention/reference.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "core/element.hpp"

namespace mambasdk::attention {
namespace {

double read(const Args& a, const StridedView& view, std::int64_t i, std::int64_t j, std::int64_t k, std::int64_t l) {
  const auto& s = view.stride;
  return load_element(view.data, a.type, i * s[0] + j * s[1] + k * s[2] + l * s[3]);
}

// The probabilities of the keys that query `l` of head `h` sees; false where it sees none.
bool softmax_row(const Args& a, double scale, std::int64_t b, std::int64_t h, std::int64_t l, Range range,
                 std::vector<double>& p) {
  const std::int64_t g = h / (a.heads / a.groups);
  double most = -std::numeric_limits<double>::infinity(), sum = 0.0;
  for (std::int64_t s = range.begin; s < range.end; ++s) {
    double& score = p[static_cast<std::size_t>(s)];
    score = 0.0;
    for (std::int64_t e = 0; e < a.width; ++e) score += read(a, a.q, b, l, h, e) * read(a, a.k, b, s, g, e);
    score *= scale;
    if (a.mask.data != nullptr) score += read(a, a.mask, b, h, l, s);
    if (!(score <= most)) most = score;  // NaN stays
  }
  if (most == -std::numeric_limits<double>::infinity()) return false;
  for (std::int64_t s = range.begin; s < range.end; ++s) {
    double& score = p[static_cast<std::size_t>(s)];
    score = std::exp(score - most);
    sum += score;
  }
  for (std::int64_t s = range.begin; s < range.end; ++s) p[static_cast<std::size_t>(s)] /= sum;
  return true;
}

}  // namespace

void reference_attention(const Args& a, double scale) {
  std::vector<double> p(static_cast<std::size_t>(a.keys));
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t l = 0; l < a.queries; ++l) {
      for (std::int64_t h = 0; h < a.heads; ++h) {
        Range range = a.visible(l);
        if (!softmax_row(a, scale, b, h, l, range, p)) range = {0, 0};
        for (std::int64_t f = 0; f < a.value_width; ++f) {
          double sum = 0.0;
          for (std::int64_t s = range.begin; s < range.end; ++s)
            sum += p[static_cast<std::size_t>(s)] * read(a, a.v, b, s, h / (a.heads / a.groups), f);
          store_element(a.y, a.type, ((b * a.queries + l) * a.heads + h) * a.value_width + f, sum);
        }
        for (std::int64_t s = 0; s < a.keys && a.probabilities != nullptr; ++s) {
          const bool seen = s >= range.begin && s < range.end;
          store_element(a.probabilities, a.type, ((b * a.heads + h) * a.queries + l) * a.keys + s,
                        seen ? p[static_cast<std::size_t>(s)] : 0.0);
        }
      }
    }
  }
}

}  // namespace mambasdk::attention
