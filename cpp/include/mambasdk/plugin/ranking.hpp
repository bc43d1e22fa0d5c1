// Scores to the best of them: what the heads that rank have in common. Needs mambasdk_add_plugin(JSON).
#ifndef MAMBASDK_PLUGIN_RANKING_HPP_
#define MAMBASDK_PLUGIN_RANKING_HPP_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mambasdk/plugin/json.hpp"

namespace mambasdk {
inline namespace abi1 {
namespace plugin {

// values (C) through "softmax" or "sigmoid", in double; as they are for any other name.
[[nodiscard]] inline std::vector<float> activated(std::span<const float> values, std::string_view activation) {
  std::vector<float> out(values.begin(), values.end());
  if (activation == "sigmoid") {
    for (float& v : out) v = static_cast<float>(1.0 / (1.0 + std::exp(-static_cast<double>(v))));
  } else if (activation == "softmax" && !out.empty()) {
    const double largest = *std::max_element(out.begin(), out.end());
    double sum = 0;
    for (const float v : out) sum += std::exp(v - largest);
    for (float& v : out) v = static_cast<float>(std::exp(v - largest) / sum);
  }
  return out;
}

// Places of the `count` best scores, best first, equal ones by place; a score that is no number comes last.
[[nodiscard]] inline std::vector<std::size_t> best(std::span<const float> scores, std::int64_t count) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const std::size_t kept = std::min(order.size(), static_cast<std::size_t>(std::max<std::int64_t>(count, 0)));
  const auto better = [&](std::size_t a, std::size_t b) {
    const float x = std::isnan(scores[a]) ? -HUGE_VALF : scores[a];
    const float y = std::isnan(scores[b]) ? -HUGE_VALF : scores[b];
    return x != y ? x > y : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), better);
  order.resize(kept);
  return order;
}

// [{"index", "label", "score"}] of these places; without labels a place's number is its label.
inline void write_labels(JsonWriter& json, std::span<const float> scores, std::span<const std::size_t> places,
                         std::span<const std::string> labels) {
  json.open('[');
  for (const std::size_t place : places) {
    json.open('{');
    json.key("index").number(place);
    json.key("label").string(labels.empty() ? std::to_string(place) : labels[place]);
    json.key("score").number(static_cast<double>(scores[place]));
    json.close('}');
  }
  json.close(']');
}

}  // namespace plugin
}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_PLUGIN_RANKING_HPP_
