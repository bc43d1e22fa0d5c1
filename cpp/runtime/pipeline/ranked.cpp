#include "runtime/pipeline/ranked.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

void RankingOptions::apply(std::string_view json, std::string_view source,
                           std::initializer_list<std::string_view> known) {
  const JsonDocument document = parse_json(json, source);
  for (const auto& [key, value] : json_object(*document, source).items()) {
    const std::string where = concat(source, ".", printable(key));
    if (std::ranges::find(known, key) == known.end()) {
      std::string names;
      for (const std::string_view name : known) names += concat(names.empty() ? "" : ", ", name);
      fail(ErrorCode::invalid_argument, where, " is no option of this head; it has ", names.empty() ? "none" : names);
    }
    if (key == "top_k") {
      if (!value.is_number_integer() || value < 1 || value > INT32_MAX) {
        fail(ErrorCode::invalid_argument, where, " must be an integer of 1 or more");
      }
      top_k = value.get<std::int64_t>();
    } else if (key == "labels") {
      labels.clear();
      for (const nlohmann::json& label : json_array(value, where)) labels.push_back(json_string(label, where));
    } else if (key == "activation") {
      activation = json_string(value, where);
      if (activation != "softmax" && activation != "sigmoid" && activation != "none") {
        fail(ErrorCode::invalid_argument, where, " must be softmax, sigmoid or none");
      }
    }
  }
}

}  // namespace mambasdk::runtime
