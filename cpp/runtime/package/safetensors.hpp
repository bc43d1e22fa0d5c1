// The safetensors format: a length, a JSON header, one buffer of tensors. Reading trusts nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/package/mapped_file.hpp"

namespace mambasdk::runtime {

struct StoredTensor {
  std::string name;
  std::string dtype;                // as in the file: "F32", "BF16", "I64", … (core/dtype_table.hpp)
  std::vector<std::int64_t> shape;  // empty: a scalar
  const std::byte* data = nullptr;  // aligned to the element size
  std::size_t size = 0;             // bytes
};

class Safetensors {
 public:
  Safetensors() = default;

  // Errors: not_found, io, corrupt (damaged or hostile), unsupported (a dtype we do not know).
  [[nodiscard]] static Safetensors open(const std::filesystem::path& path);
  // Borrows `bytes`; `source` names them in errors.
  [[nodiscard]] static Safetensors from_bytes(std::span<const std::byte> bytes, std::string_view source);

  [[nodiscard]] const std::vector<StoredTensor>& tensors() const noexcept { return tensors_; }  // in file order
  [[nodiscard]] const StoredTensor* find(std::string_view name) const;
  [[nodiscard]] const StoredTensor& at(std::string_view name) const;  // error: not_found
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  // The file, where it came from one.
  [[nodiscard]] const MappedFile& file() const noexcept { return file_; }
  // For a tensor that nobody reads again (MappedFile::give_back).
  void give_back(const StoredTensor& tensor) noexcept { file_.give_back({tensor.data, tensor.size}); }
  // Tensors whose place in the file is not aligned to their element size; these were copied.
  [[nodiscard]] std::size_t copied_count() const noexcept { return copies_.size(); }

 private:
  MappedFile file_;
  std::string source_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string, std::size_t> index_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::unique_ptr<std::byte[]>> copies_;
};

// The file's bytes: names unique, sizes checked, tensors in order of falling element size, then name, so that all are
// aligned. Errors: invalid_argument.
[[nodiscard]] std::vector<std::byte> serialize_safetensors(std::span<const StoredTensor> tensors,
                                                           const std::map<std::string, std::string>& metadata = {});
void write_safetensors(const std::filesystem::path& path, std::span<const StoredTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace mambasdk::runtime
