// Opening and verifying package directories.
#include "runtime/package/package.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "runtime/package/hash_cache.hpp"
#include "runtime/package/json.hpp"
#include "runtime/package/mapped_file.hpp"
#include "runtime/package/sha256.hpp"

namespace mambasdk::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxManifestBytes = std::size_t{16} << 20;
constexpr std::size_t kMaxProgramBytes = std::size_t{16} << 20;

bool is_inside(const fs::path& file, const fs::path& directory) {
  const auto [rest, ignored] = std::mismatch(directory.begin(), directory.end(), file.begin(), file.end());
  return rest == directory.end();
}

}  // namespace

fs::path Package::file_path(std::string_view name) const {
  const std::string where = concat("package ", directory_.string());
  check_package_file_name(name, where);
  const fs::path path = directory_ / fs::path(name);
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) {
    fail(ErrorCode::not_found, where, ": file \"", printable(name), "\" is missing (", error.message(),
         "); copy the whole package directory");
  }
  if (!is_inside(real, fs::canonical(directory_))) {
    fail(ErrorCode::corrupt, where, ": file \"", printable(name),
         "\" is a link that leaves the package; copy the files themselves into the directory");
  }
  if (!fs::is_regular_file(real, error)) {
    fail(ErrorCode::corrupt, where, ": \"", printable(name), "\" is not a regular file");
  }
  return path;
}

Package Package::open(const fs::path& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    fail(ErrorCode::not_found, "no package directory at ", directory.string());
  }
  if (!fs::exists(directory / kManifestFile, error)) {
    fail(ErrorCode::not_found, directory.string(), " has no ", kManifestFile,
         "; a package is a directory made by mambasdk.save_package or `mambasdk export`");
  }
  Package package;
  package.directory_ = directory;
  const fs::path manifest_path = package.file_path(kManifestFile);
  package.manifest_ = parse_manifest(read_text_file(manifest_path, kMaxManifestBytes), manifest_path.string());
  for (const auto& [name, record] : package.manifest_.files) {
    const std::uintmax_t size = fs::file_size(package.file_path(name), error);
    if (error) fail(ErrorCode::io, "cannot stat ", name, " of package ", directory.string(), ": ", error.message());
    if (size != record.size) {
      fail(ErrorCode::corrupt, "package ", directory.string(), ": ", name, " has ", size, " bytes, the manifest says ",
           record.size, "; the file is truncated or was changed, copy or download it again");
    }
  }
  for (const auto& [place, name] : package.manifest_.references) (void)package.file_path(name);
  if (package.manifest_.files.contains(std::string(kWeightsFile)) || fs::exists(directory / kWeightsFile, error)) {
    (void)package.file_path(kWeightsFile);
    package.weights_ = std::make_unique<Weights>();
  }
  return package;
}

const Safetensors& Package::weights() const {
  if (!weights_) fail(ErrorCode::not_found, "package ", directory_.string(), " has no ", kWeightsFile);
  std::call_once(weights_->once, [&] { weights_->tensors = Safetensors::open(file_path(kWeightsFile)); });
  return weights_->tensors;
}

std::string Package::program_text() const {
  if (manifest_.program.empty()) {
    fail(ErrorCode::not_found, "package ", directory_.string(), " has no native program (its engine is \"",
         printable(manifest_.engine), "\")");
  }
  return read_text_file(file_path(manifest_.program), kMaxProgramBytes);
}

std::optional<fs::path> Package::tokenizer_path() const {
  if (!manifest_.text || manifest_.text->kind != "tokenizer") return std::nullopt;
  return file_path(manifest_.text->file);
}

void Package::verify(bool again) const {
  // A package that lists no file at all was not written by a release, but by hand: there is nothing to compare.
  const auto check_listed = [&](const std::string& name, std::string_view place) {
    if (!manifest_.files.contains(name) && (again || !manifest_.files.empty())) {
      fail(ErrorCode::corrupt, directory_.string(), ": ", place, " is \"", printable(name),
           "\", which `files` does not list, so nothing tells whether it is whole; export the package again");
    }
  };
  if (has_weights()) check_listed(std::string(kWeightsFile), "the weights' file");
  for (const auto& [place, name] : manifest_.references) check_listed(name, place);
  for (const auto& [name, record] : manifest_.files) {
    const fs::path path = file_path(name);
    // The native engine computes with these very bytes, whatever the file is by then; others read it themselves.
    const bool loaded = name == kWeightsFile && manifest_.engine == "native" && weights().file().is_whole();
    FileState state = loaded ? weights().file().state() : file_state(path);
    if (!again && recall_hash(path, state) == record.sha256) continue;
    const std::string actual = loaded ? sha256_hex(weights().file().bytes()) : sha256_file(path, &state);
    if (actual != record.sha256) {
      fail(ErrorCode::corrupt, path.string(), ": SHA-256 is ", actual, ", the manifest says ", record.sha256,
           "; the file is damaged or was changed, copy or download it again");
    }
    remember_hash(path, state, actual);
  }
}

}  // namespace mambasdk::runtime
