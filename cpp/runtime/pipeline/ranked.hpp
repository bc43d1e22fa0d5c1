// What the heads that rank have for options, and how they read their tensor.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.hpp"

namespace mambasdk::runtime {

struct RankingOptions {
  std::int64_t top_k = 5;
  std::vector<std::string> labels;  // names by index; empty: there are none
  std::string activation = "softmax";

  // Sets what `json` names. Error(invalid_argument): what is not in `known`, or has another type.
  void apply(std::string_view json, std::string_view source, std::initializer_list<std::string_view> known);
};

}  // namespace mambasdk::runtime
