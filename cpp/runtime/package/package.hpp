// A model package on disk: manifest, weights, native program and processor files, each checked before use.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/package/manifest.hpp"
#include "runtime/package/safetensors.hpp"

namespace mambasdk::runtime {

inline constexpr std::string_view kWeightsFile = "model.safetensors";

class Package {
 public:
  // Reads the manifest, checks that every listed file, and every one that it refers to, is a regular file inside the
  // directory, with the listed size (not its hash: verify_files()). Errors: not_found, io, corrupt, version,
  // unsupported.
  [[nodiscard]] static Package open(const std::filesystem::path& directory);

  [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_; }
  [[nodiscard]] const Manifest& manifest() const noexcept { return manifest_; }

  [[nodiscard]] bool has_weights() const noexcept { return weights_ != nullptr; }
  // Read when first asked for; several threads may ask. Errors: not_found, io, corrupt, unsupported, out_of_memory.
  [[nodiscard]] const Safetensors& weights() const;
  // For weights that nobody reads again (MappedFile::give_back). Not while others read.
  void give_back(const StoredTensor& weight) noexcept {
    if (weights_ != nullptr) weights_->tensors.give_back(weight);
  }

  // The native program's JSON text. Error: not_found where the package has none.
  [[nodiscard]] std::string program_text() const;

  // Path of a file of the package; refused where it leaves the directory, a symbolic link included. Errors: corrupt,
  // not_found.
  [[nodiscard]] std::filesystem::path file_path(std::string_view name) const;

  // tokenizer.json of the text processor; nullopt for "bytes" and for packages without text.
  [[nodiscard]] std::optional<std::filesystem::path> tokenizer_path() const;

  // SHA-256 of every listed file against the manifest; what the package uses must be listed. Errors: corrupt, naming
  // the file.
  void verify_files() const { verify(true); }
  // The same for the files that were not compared since they last changed (hash_cache.hpp).
  void verify_changed_files() const { verify(false); }

 private:
  void verify(bool again) const;

  std::filesystem::path directory_;
  Manifest manifest_;
  struct Weights {
    std::once_flag once;
    Safetensors tensors;
  };
  std::unique_ptr<Weights> weights_;  // none: the package has no such file
};

}  // namespace mambasdk::runtime
