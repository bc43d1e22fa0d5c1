// The modalities of a vocabulary: each has a range of token ids.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mambasdk::multimodal {

class Modalities {
 public:
  // ends: the id at which each one's tokens end. Throws Error unless there is one for each name, ascending from 1.
  Modalities(std::vector<std::string> names, std::vector<std::int64_t> ends);

  [[nodiscard]] std::size_t count() const { return ends_.size(); }
  [[nodiscard]] const std::string& name(std::size_t modality) const { return names_[modality]; }
  [[nodiscard]] std::int64_t first(std::size_t modality) const { return modality == 0 ? 0 : ends_[modality - 1]; }
  [[nodiscard]] std::int64_t size(std::size_t modality) const { return ends_[modality] - first(modality); }
  // Ids beyond all ranges count as the last modality.
  [[nodiscard]] std::size_t of(std::int64_t token) const;
  // Throws Error with the names that there are; `where` is said first.
  [[nodiscard]] std::size_t find(std::string_view name, const std::string& where) const;

 private:
  std::vector<std::string> names_;
  std::vector<std::int64_t> ends_;
};

}  // namespace mambasdk::multimodal
