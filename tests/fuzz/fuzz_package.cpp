// One blob as a package: manifest, native program and weights, split at NUL NUL, read through the in-memory parts of
// the loader. Anything but an Error or a readable package is a bug.
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.hpp"
#include "runtime/package/json.hpp"
#include "runtime/package/manifest.hpp"
#include "runtime/package/safetensors.hpp"
#include "runtime/package/sha256.hpp"
#include "seeds.hpp"

#include <nlohmann/json.hpp>

namespace rt = mambasdk::runtime;

static constexpr std::string_view kSeparator("\0\0", 2);

static std::vector<std::string> seeds() {
  const std::string manifest = R"({"format": [1, 0], "family": "mamba", "variant": "tiny", "config": {"d_model": 8},
"head": "causal_lm", "engine": {"name": "native", "program": "program.json"},
"inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
"outputs": [{"name": "logits", "dtype": "f32", "shape": ["B", "L", 256]}],
"processors": {"text": {"kind": "tokenizer", "file": "tokenizer.json", "eos_token_id": 0, "bos_token_id": 1}},
"requires": {"mambasdk_abi": [1, 0], "plugins": [{"name": "mambasdk-language", "version": "0.1.0"}]},
"files": {"model.safetensors": {"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "size": 3}}})";
  const std::string program = R"({"format": 1, "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
"states": [{"name": "conv", "dtype": "f32", "shape": ["B", 3, 16]}],
"prepare": [{"op": "neg_exp", "args": {"x": "@A_log"}, "out": {"y": "@A"}}],
"nodes": [{"op": "embedding", "args": {"indices": "%tokens", "weight": "@w"}, "out": {"y": "%h"}},
{"view": "slice", "in": "%h", "dim": -1, "start": 0, "length": 4, "out": "%x"}],
"outputs": [{"name": "logits", "value": "%x"}]})";
  const std::vector<float> data = {1, 2, 3, 4};
  const auto bytes = std::as_bytes(std::span(data));
  const rt::StoredTensor tensor{"w", "F32", {2, 2}, bytes.data(), bytes.size()};
  const auto weights = rt::serialize_safetensors({&tensor, 1});
  std::string whole = manifest;
  whole += kSeparator;
  whole += program;
  whole += kSeparator;
  whole.append(reinterpret_cast<const char*>(weights.data()), weights.size());
  return {manifest, whole};
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(*argc, *argv, seeds());
  return 0;
}

// The part before the next separator, which is taken off `blob`.
static std::string_view take_part(std::string_view& blob) {
  const std::size_t end = blob.find(kSeparator);
  const std::string_view part = blob.substr(0, end);
  blob.remove_prefix(end == std::string_view::npos ? blob.size() : end + kSeparator.size());
  return part;
}

template <class Action>
static void errors_only(Action&& action) {
  try {
    action();
  } catch (const mambasdk::Error&) {
  }
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view blob(reinterpret_cast<const char*>(data), size);
  const std::string_view manifest_text = take_part(blob);
  const std::string_view program_text = take_part(blob);
  errors_only([&] {
    const rt::Manifest manifest = rt::parse_manifest(manifest_text);
    for (const auto& [name, record] : manifest.files) rt::check_package_file_name(name, "files");
    (void)rt::parse_json(manifest.config_json, "config");
  });
  errors_only([&] { (void)rt::parse_json(program_text, "program.json").dump(); });
  errors_only([&] {
    const auto weights = rt::Safetensors::from_bytes(std::as_bytes(std::span(blob)), "model.safetensors");
    for (const rt::StoredTensor& tensor : weights.tensors()) (void)rt::sha256_hex({tensor.data, tensor.size});
  });
  return 0;
}
