// Options whose lists may be of any length, or empty, which stands for the default.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"

namespace mambasdk::medical {

using ListSizes = std::map<std::string, std::size_t, std::less<>>;

// The text of options without what is an empty list; `sizes`: how long the other lists are.
[[nodiscard]] inline std::string without_empty_lists(std::string_view text, std::string_view where, ListSizes& sizes) {
  plugin::JsonDocument document;
  const plugin::JsonLimits limits{.max_bytes = std::size_t{16} << 20, .max_depth = 16, .max_values = 1 << 20};
  if (const auto fault = plugin::read_json(text.empty() ? "{}" : text, limits, document)) {
    plugin::invalid(std::string(where) + ": its options are no JSON at byte " + std::to_string(fault->at) + ": " +
                    fault->reason);
  }
  nlohmann::json& options = *document;
  if (!options.is_object()) return std::string(text);
  for (auto it = options.begin(); it != options.end();) {
    if (it->is_array() && it->empty()) {
      it = options.erase(it);
      continue;
    }
    if (it->is_array()) sizes[it.key()] = it->size();
    ++it;
  }
  return options.dump();
}

}  // namespace mambasdk::medical
