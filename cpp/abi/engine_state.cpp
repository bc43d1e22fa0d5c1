#include "abi/engine_state.hpp"

#include <optional>

#include "abi/convert.hpp"
#include "runtime/package/json.hpp"
#include "runtime/package/safetensors.hpp"

namespace mambasdk::abi {

namespace {

constexpr const char* kStateKey = "mambasdk_state";
constexpr const char* kEngineKey = "mambasdk_engine";  // whose bytes the one tensor holds
constexpr const char* kBytes = "engine_state";

std::optional<runtime::Safetensors> read_image(std::span<const std::byte> image) {
  try {
    runtime::Safetensors read = runtime::Safetensors::from_bytes(image, "saved state");
    if (read.metadata().contains(kStateKey)) return read;
  } catch (const Error& e) {
    if (e.code() == ErrorCode::out_of_memory) throw;
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::byte> wrap_state(std::span<const std::byte> image, const runtime::StateIdentity& identity,
                                  mambasdk_string engine) {
  std::map<std::string, std::string> metadata = identity.metadata();
  if (const auto states = read_image(image)) {
    for (const auto& [key, text] : states->metadata()) metadata.emplace(key, text);
    return runtime::serialize_safetensors(states->tensors(), metadata);
  }
  metadata.emplace(kStateKey, "1");
  metadata.emplace(kEngineKey, view(engine));
  const runtime::StoredTensor bytes{
      kBytes, "U8", {static_cast<std::int64_t>(image.size())}, image.data(), image.size()};
  return runtime::serialize_safetensors({&bytes, 1}, metadata);
}

std::span<const std::byte> unwrap_state(std::span<const std::byte> image, const runtime::StateIdentity& identity,
                                        mambasdk_string engine) {
  const auto states = read_image(image);
  if (!states) return image;
  identity.check(states->metadata());
  const auto made_by = states->metadata().find(kEngineKey);
  if (made_by == states->metadata().end()) return image;
  if (made_by->second != view(engine)) {
    fail(ErrorCode::invalid_argument, "the state was saved by the engine ", runtime::printable(made_by->second),
         ", this is ", view(engine));
  }
  const runtime::StoredTensor& bytes = states->at(kBytes);
  return {bytes.data, bytes.size};
}

}  // namespace mambasdk::abi
