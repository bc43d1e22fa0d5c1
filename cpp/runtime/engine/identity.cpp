#include "runtime/engine/identity.hpp"

#include "core/error.hpp"
#include "runtime/package/json.hpp"
#include "runtime/package/sha256.hpp"

namespace mambasdk::runtime {

namespace {

constexpr const char* kProgramKey = "mambasdk_program";

std::string name_of(std::string_view family, std::string_view variant) {
  return variant.empty() ? printable(family) : concat(printable(family), " (", printable(variant), ")");
}

// Whether a file of the package takes part in what the model computes.
bool computes(std::string_view name) {
  return name != "golden.safetensors" && (name.ends_with(".safetensors") || name.ends_with(".pt2"));
}

}  // namespace

std::map<std::string, std::string> StateIdentity::metadata() const {
  return {{"family", family}, {"variant", variant}, {kProgramKey, program}};
}

void StateIdentity::check(const std::map<std::string, std::string>& saved) const {
  const auto value = [&](const char* key) {
    const auto found = saved.find(key);
    return found == saved.end() ? std::string() : found->second;
  };
  if (value("family") != family || value("variant") != variant) {
    fail(ErrorCode::invalid_argument, "the state was saved by ", name_of(value("family"), value("variant")),
         ", this model is ", name_of(family, variant), "; restore it into a session of the package that saved it");
  }
  if (const std::string made_by = value(kProgramKey); !made_by.empty() && made_by != program) {
    fail(ErrorCode::invalid_argument, "the state was saved by another package of ", name_of(family, variant),
         ": its program or weights differ (", printable(made_by).substr(0, 12), ", this is ", program.substr(0, 12),
         "); restore it into a session of the package that saved it");
  }
}

StateIdentity state_identity(const Package& package, std::string_view program) {
  const Manifest& manifest = package.manifest();
  // Every part is preceded by its length, so that no two packages give one text.
  std::string text;
  const auto add = [&](std::string_view part) {
    text += std::to_string(part.size());
    text += ':';
    text += part;
  };
  add(manifest.engine);
  add(program);
  if (package.has_weights()) {
    for (const StoredTensor& tensor : package.weights().tensors()) {
      add(tensor.name);
      add(tensor.dtype);
      for (const std::int64_t extent : tensor.shape) add(std::to_string(extent));
    }
  }
  for (const auto& [name, record] : manifest.files) {
    if (!computes(name)) continue;
    add(name);
    add(record.sha256);
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return {manifest.family, manifest.variant, sha256_hex({bytes, text.size()})};
}

}  // namespace mambasdk::runtime
