// What the tests of the C ABI share: the table, statuses as values, tensors over vectors, plugins made in the test, and
// small packages on disk.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "abi/plugins.hpp"
#include "mambasdk/mambasdk.h"
#include "runtime/package/safetensors.hpp"

namespace mambasdk::abi::testing {

inline const mambasdk_api& api() {
  return *mambasdk_get_api(1, 0);
}
inline mambasdk_string text(std::string_view s) {
  return {s.data(), s.size()};
}
inline std::string text(mambasdk_string s) {
  return {s.data, static_cast<std::size_t>(s.size)};
}

// Code and message of a status, which it releases; code 0 for success.
struct Outcome {
  std::int32_t code = 0;
  std::string message;
  explicit Outcome(mambasdk_status* status) {
    if (status == nullptr) return;
    code = api().status_code(status);
    message = text(api().status_message(status));
    api().status_release(status);
  }
  [[nodiscard]] bool says(std::string_view part) const { return message.find(part) != std::string::npos; }
};

// A tensor over a vector that it owns.
template <class T>
struct Array {
  std::vector<T> data;
  std::vector<std::int64_t> shape;
  mambasdk_tensor tensor;
  explicit Array(std::vector<T> values, std::vector<std::int64_t> extents = {})
      : data(std::move(values)), shape(std::move(extents)) {
    if (shape.empty()) shape = {static_cast<std::int64_t>(data.size())};
    const auto code = static_cast<std::uint8_t>(std::is_floating_point_v<T> ? 2 : std::is_signed_v<T> ? 0 : 1);
    tensor = {data.data(), {1, 0}, static_cast<std::int32_t>(shape.size()), {code, sizeof(T) * 8, 1}, shape.data(),
              nullptr,     0};
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
};
using Vector = Array<float>;

inline Array<std::uint8_t> bytes(std::string_view s) {
  return Array<std::uint8_t>(std::vector<std::uint8_t>(s.begin(), s.end()));
}

// NULL: there is none.
inline const mambasdk_tensor* input_named(const mambasdk_named_tensor* inputs, std::uint64_t count,
                                          std::string_view name) {
  for (std::uint64_t i = 0; i < count; ++i) {
    if (text(inputs[i].name) == name) return inputs[i].tensor;
  }
  return nullptr;
}

inline mambasdk_value value(const mambasdk_tensor& t) {
  mambasdk_value v{};
  v.kind = MAMBASDK_VALUE_TENSOR;
  v.as.tensor = &t;
  return v;
}

inline mambasdk_op_definition definition(std::string_view signature, mambasdk_kernel_fn kernel) {
  mambasdk_op_definition d{};
  d.struct_size = sizeof(d);
  d.signature = text(signature);
  d.cpu = kernel;
  return d;
}

inline mambasdk_plugin_descriptor descriptor(decltype(mambasdk_plugin_descriptor::initialize) initialize,
                                             std::string_view name = "test-plugin") {
  mambasdk_plugin_descriptor d{};
  d.struct_size = sizeof(d);
  d.abi_major = MAMBASDK_ABI_MAJOR;
  d.abi_minor = 0;
  d.name = text(name);
  d.version = text("1.2.3");
  d.initialize = initialize;
  return d;
}

inline Outcome register_plugin(const mambasdk_plugin_descriptor& d, std::string_view origin) {
  return Outcome(plugin_register(&d, text(origin), nullptr));
}

// What a plugin hands out: a tensor that owns `values`. `live` counts those that were not deleted.
inline mambasdk_managed_tensor* managed(std::vector<float> values, std::vector<std::int64_t> extents,
                                        int* live = nullptr) {
  struct Block {
    mambasdk_managed_tensor managed{};
    Array<float> array;
    int* live;
  };
  auto* block = new Block{{}, Array<float>(std::move(values), std::move(extents)), live};
  if (live != nullptr) ++*live;
  block->managed.dlpack_major = 1;
  block->managed.manager = block;
  block->managed.deleter = [](mambasdk_managed_tensor* self) {
    auto* owner = static_cast<Block*>(self->manager);
    if (owner->live != nullptr) --*owner->live;
    delete owner;
  };
  block->managed.tensor = block->array.tensor;
  return &block->managed;
}

struct WeightSpec {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

// A package directory of its own under the test's temporary folder; tests run as processes beside each other.
inline std::string write_package(std::string_view name, std::string_view manifest, std::string_view program = {},
                                 const std::vector<WeightSpec>& weights = {}) {
  const std::filesystem::path directory =
      std::filesystem::path(::testing::TempDir()) / ("mambasdk_" + std::to_string(getpid()) + "_" + std::string(name));
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "mambasdk.json") << manifest;
  if (!program.empty()) std::ofstream(directory / "program.json") << program;
  std::vector<runtime::StoredTensor> stored;
  for (const WeightSpec& w : weights) {
    stored.push_back(
        {w.name, "F32", w.shape, reinterpret_cast<const std::byte*>(w.values.data()), w.values.size() * 4});
  }
  if (!weights.empty()) runtime::write_safetensors(directory / "model.safetensors", stored);
  return directory.string();
}

// A language model over bytes that has learned one thing: after byte b comes b + 1.
inline std::string write_counting_package(std::string_view name, std::string_view more = "") {
  constexpr std::int64_t kVocab = 256;
  std::vector<float> embedding(kVocab * kVocab, 0.0f), head(kVocab * kVocab, 0.0f);
  for (std::int64_t b = 0; b < kVocab; ++b) {
    embedding[static_cast<std::size_t>(b * kVocab + b)] = 1.0f;
    head[static_cast<std::size_t>(((b + 1) % kVocab) * kVocab + b)] = 1.0f;
  }
  const std::string program = R"({"format": 1, "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
    "states": [], "prepare": [], "nodes": [
    {"op": "embedding", "args": {"indices": "%tokens", "weight": "@embedding"}, "out": {"y": "%h"}},
    {"op": "linear", "args": {"x": "%h", "weight": "@head"}, "out": {"y": "%logits"}},
    {"view": "slice", "in": "%logits", "dim": 1, "start": -1, "length": 1, "out": "%last"},
    {"view": "reshape", "in": "%last", "shape": ["B", 256], "out": "%last_logits"}],
    "outputs": [{"name": "logits", "value": "%logits"}, {"name": "last_logits", "value": "%last_logits"}]})";
  const std::string manifest = R"({"format": [1, 1], "family": "test", "variant": "count", "config": {},
    "head": "causal_lm", "engine": {"name": "native", "program": "program.json"},
    "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}], "outputs": [],
    "processors": {"text": {"kind": "bytes"}}, "files": {})" +
                               std::string(more) + "}";
  return write_package(name, manifest, program,
                       {{"embedding", {kVocab, kVocab}, embedding}, {"head", {kVocab, kVocab}, head}});
}

// A loaded package.
struct Loaded {
  mambasdk_model* model = nullptr;
  explicit Loaded(const std::string& directory) {
    const Outcome loaded(api().model_load(text(std::string_view(directory)), nullptr, &model));
    EXPECT_EQ(loaded.message, "");
  }
  ~Loaded() { api().model_release(model); }
};

}  // namespace mambasdk::abi::testing
