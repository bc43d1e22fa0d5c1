// A model package on disk: manifest, weights, native program and processor files, each checked before use.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/package/manifest.hpp"
#include "runtime/package/safetensors.hpp"

namespace mambasdk::runtime {

inline constexpr std::string_view kWeightsFile = "model.safetensors";

class Package {
 public:
  // Reads the manifest, checks that every listed file is there with the listed size (not its hash: verify_files()),
  // maps the weights. Errors: not_found, io, corrupt, version, unsupported.
  [[nodiscard]] static Package open(const std::filesystem::path& directory);

  [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_; }
  [[nodiscard]] const Manifest& manifest() const noexcept { return manifest_; }

  [[nodiscard]] bool has_weights() const noexcept { return weights_.has_value(); }
  [[nodiscard]] const Safetensors& weights() const;  // error: not_found

  // The native program's JSON text. Error: not_found where the package has none.
  [[nodiscard]] std::string program_text() const;

  // Path of a file of the package; refused where it leaves the directory, a symbolic link included. Errors: corrupt,
  // not_found.
  [[nodiscard]] std::filesystem::path file_path(std::string_view name) const;

  // tokenizer.json of the text processor; nullopt for "bytes" and for packages without text.
  [[nodiscard]] std::optional<std::filesystem::path> tokenizer_path() const;

  // SHA-256 of every listed file against the manifest. Errors: corrupt, naming the file.
  void verify_files() const;

 private:
  std::filesystem::path directory_;
  Manifest manifest_;
  std::optional<Safetensors> weights_;
};

}  // namespace mambasdk::runtime
