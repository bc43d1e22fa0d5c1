#include "modalities.hpp"

#include <algorithm>

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/json.hpp"

namespace mambasdk::multimodal {

Modalities::Modalities(std::vector<std::string> names, std::vector<std::int64_t> ends)
    : names_(std::move(names)), ends_(std::move(ends)) {
  bool fits = !ends_.empty() && ends_.size() == names_.size();
  for (std::size_t m = 0; fits && m < ends_.size(); ++m) fits = ends_[m] > first(m) && ends_[m] <= INT32_MAX;
  if (fits) return;
  plugin::invalid("multimodal: ranges: expected one ascending end of ids for each of " + std::to_string(names_.size()) +
                  " modalities, got " + plugin::to_text(ends_));
}

std::size_t Modalities::of(std::int64_t token) const {
  const auto place = std::upper_bound(ends_.begin(), ends_.end() - 1, token) - ends_.begin();
  return static_cast<std::size_t>(place);
}

std::size_t Modalities::find(std::string_view name, const std::string& where) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  if (found != names_.end()) return static_cast<std::size_t>(found - names_.begin());
  std::string known;
  for (const std::string& each : names_) known += (known.empty() ? "" : ", ") + each;
  plugin::invalid(where + ": no modality \"" + plugin::quoted(name) + "\"; the model has " + known);
}

}  // namespace mambasdk::multimodal
