// One blob as a package: manifest, native program and weights, split at NUL NUL, and behind another mark constants.
// What loads is run, with its states saved, restored, cloned and damaged, under budgets of memory and work. Anything
// but an Error or a result is a bug.
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>

#include "core/error.hpp"
#include "runtime/engine/engines.hpp"
#include "runtime/engine/native.hpp"
#include "runtime/package/json.hpp"
#include "runtime/package/manifest.hpp"
#include "runtime/package/safetensors.hpp"
#include "runtime/package/sha256.hpp"
#include "runtime/pipeline/pipeline.hpp"
#include "seeds.hpp"

namespace rt = mambasdk::runtime;

static constexpr std::string_view kSeparator("\0\0", 2), kConstants("\0constants\0", 11);
static constexpr std::uint64_t kMemory = std::uint64_t{64} << 20;
static constexpr std::uint64_t kWork = std::uint64_t{1} << 24;

using Shapes = std::vector<std::pair<std::string, std::vector<std::int64_t>>>;

static std::string random_tensors(const Shapes& shapes) {
  std::mt19937 random(3);
  std::vector<std::vector<float>> data;
  std::vector<rt::StoredTensor> tensors;
  for (const auto& [name, shape] : shapes) {
    std::int64_t count = 1;
    for (const std::int64_t n : shape) count *= n;
    data.emplace_back(static_cast<std::size_t>(count));
    for (float& x : data.back()) x = static_cast<float>(random() % 1000) / 1000.0f - 0.5f;
    tensors.push_back({name, "F32", shape, std::as_bytes(std::span(data.back())).data(), data.back().size() * 4});
  }
  const auto file = rt::serialize_safetensors(tensors);
  return {reinterpret_cast<const char*>(file.data()), file.size()};
}

static std::string join(const std::string& manifest, const std::string& program, const Shapes& weights,
                        const Shapes& constants = {}) {
  std::string whole = manifest;
  whole += kSeparator;
  whole += program;
  whole += kSeparator;
  whole += random_tensors(weights);
  if (!constants.empty()) {
    whole += kConstants;
    whole += random_tensors(constants);
  }
  return whole;
}

static std::vector<std::string> seeds() {
  const std::string manifest = R"({"format": [1, 0], "family": "mamba", "variant": "tiny", "config": {"d_model": 6},
"head": "causal_lm", "engine": {"name": "native", "program": "program.json"},
"inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
"outputs": [{"name": "logits", "dtype": "f32", "shape": ["B", "L", 11]}],
"processors": {"text": {"kind": "bytes", "eos_token_id": 0}},
"requires": {"mambasdk_abi": [1, 0], "plugins": []}, "files": {}})";
  // A whole block, as an export of Mamba writes it.
  const std::string mamba = R"({"format": 1, "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
"states": [{"name": "conv", "dtype": "f32", "shape": ["B", 3, 6]}, {"name": "ssm", "dtype": "f32", "shape": ["B", 1, 6, 4]}],
"prepare": [{"op": "neg_exp", "args": {"x": "@A_log"}, "out": {"y": "@A"}}],
"nodes": [{"op": "embedding", "args": {"indices": "%tokens", "weight": "@embedding"}, "out": {"y": "%h"}},
{"op": "rms_norm", "args": {"x": "%h", "weight": "@norm"}, "out": {"y": "%n"}},
{"op": "causal_conv1d", "args": {"x": "%n", "weight": "@conv", "initial_state": "$conv", "silu": true, "return_final_state": true}, "out": {"y": "%c", "final_state": "$conv"}},
{"op": "linear", "args": {"x": "%c", "weight": "@proj"}, "out": {"y": "%p"}},
{"view": "slice", "in": "%p", "dim": -1, "start": 0, "length": 6, "out": "%d"},
{"view": "reshape", "in": "%d", "shape": ["B", 1, "L", 6], "out": "%delta"},
{"view": "slice", "in": "%p", "dim": -1, "start": 6, "length": 4, "out": "%b"},
{"view": "reshape", "in": "%b", "shape": ["B", 1, "L", 1, 4], "out": "%B"},
{"view": "slice", "in": "%p", "dim": -1, "start": 10, "length": 4, "out": "%cc"},
{"view": "reshape", "in": "%cc", "shape": ["B", 1, "L", 1, 4], "out": "%C"},
{"op": "selective_scan", "args": {"u": "%c", "delta": "%delta", "A": "@A", "B": "%B", "C": "%C", "initial_state": "$ssm", "delta_softplus": true, "return_final_state": true}, "out": {"y": "%y", "final_state": "$ssm"}},
{"op": "add", "args": {"x": "%y", "y": "%h"}, "out": {"out": "%r"}},
{"op": "linear", "args": {"x": "%y", "weight": "@head"}, "out": {"y": "%logits"}},
{"view": "slice", "in": "%logits", "dim": 1, "start": -1, "length": 1, "out": "%last"},
{"view": "reshape", "in": "%last", "shape": ["B", 11], "out": "%last_logits"}],
"outputs": [{"name": "logits", "value": "%logits"}, {"name": "last_logits", "value": "%last_logits"}]})";
  const Shapes block = {{"embedding", {11, 6}}, {"norm", {6}},        {"conv", {6, 4}},
                        {"proj", {14, 6}},      {"A_log", {1, 6, 4}}, {"head", {11, 6}}};
  // An image model's beginning: windows, positions that are repeated, a mean of rows.
  const std::string image_manifest = R"({"format": [1, 1], "family": "image", "config": {}, "head": "",
"engine": {"name": "native", "program": "program.json"},
"inputs": [{"name": "image", "dtype": "f32", "shape": ["B", 3, "H", "W"]}], "outputs": [], "files": {}})";
  const std::string image = R"({"format": 1, "inputs": [{"name": "image", "dtype": "f32", "shape": ["B", 3, "H", "W"]}],
"prepare": [{"op": "scale", "args": {"x": "@pos", "factor": 0.5}, "out": {"y": "@half"}}],
"nodes": [{"view": "permute", "in": "%image", "dims": [0, 2, 3, 1], "out": "%last"},
{"view": "expand", "in": "@half", "shape": ["B", "H", "W", -1], "out": "%pos"},
{"op": "relu", "args": {"x": "%image"}, "out": {"y": "%r"}},
{"op": "gelu", "args": {"x": "%r"}, "out": {"y": "%g"}}],
"outputs": [{"name": "g", "value": "%g"}, {"name": "last", "value": "%last"}, {"name": "pos", "value": "%pos"}]})";
  // Format 2: expressions of extents, steps, constants, indices; maps and sequences as exports of plain networks have.
  const std::string maps_manifest = R"({"format": [1, 1], "family": "maps", "config": {}, "head": "",
"engine": {"name": "native", "program": "program.json"},
"inputs": [{"name": "image", "dtype": "f32", "shape": ["B", 3, "H", "W"]}, {"name": "grid", "dtype": "f32", "shape": ["B", 1, "H", "W", 2]}],
"outputs": [], "files": {}})";
  const std::string maps = R"({"format": 2, "inputs": [{"name": "image", "dtype": "f32", "shape": ["B", 3, "H", "W"]},
{"name": "grid", "dtype": "f32", "shape": ["B", 1, "H", "W", 2]}],
"prepare": [{"op": "pack_weights", "args": {"weight": "@head"}, "out": {"y": "@packed"}}],
"nodes": [{"view": "permute", "in": "%image", "dims": [0, 2, 3, 1], "out": "%p"},
{"view": "reshape", "in": "%p", "shape": ["B", 1, "H", "W", 3], "out": "%x"},
{"op": "convolution", "args": {"x": "%x", "weight": "@conv", "bias": "@bias", "stride_h": 2, "stride_w": 2, "padding_h": 1, "padding_w": 1, "padding_after_h": 1, "padding_after_w": 1, "activation": 1}, "out": {"y": "%c"}},
{"op": "max_pool", "args": {"x": "%c", "kernel_d": 1, "kernel_h": 2, "kernel_w": 2, "stride_d": 1, "stride_h": 2, "stride_w": 2, "padding_h": 1, "padding_after_w": 1}, "out": {"y": "%m"}},
{"op": "resize", "args": {"x": "%c", "depth": 1, "height": "2*H", "width": "W + 1", "mode": 2}, "out": {"y": "%r"}},
{"view": "slice", "in": "%r", "dim": 2, "start": 0, "length": "(2*H + 1)//2", "step": 2, "out": "%s"},
{"op": "grid_sample", "args": {"x": "%s", "grid": "%grid", "padding_mode": 1}, "out": {"y": "%g"}},
{"op": "adaptive_average_pool", "args": {"x": "%g", "depth": 1, "height": 2, "width": 2}, "out": {"y": "%a"}},
{"view": "reshape", "in": "%a", "shape": ["B", 16], "out": "%f"},
{"op": "linear_packed", "args": {"x": "%f", "weight": "@packed", "features": 5, "activation": 2, "round_x": true}, "out": {"y": "%scores"}},
{"op": "topk", "args": {"x": "%scores", "k": 3}, "out": {"values": "%best", "indices": "%which"}}],
"outputs": [{"name": "best", "value": "%best"}, {"name": "which", "value": "%which"}, {"name": "m", "value": "%m"}]})";
  const std::string sequence_manifest = R"({"format": [1, 1], "family": "sequence", "config": {}, "head": "",
"engine": {"name": "native", "program": "program.json", "constants": "constants.safetensors"},
"inputs": [{"name": "x", "dtype": "f32", "shape": ["B", "L", 6]}, {"name": "index", "dtype": "i32", "shape": ["B", "M", 4]}],
"outputs": [], "files": {}})";
  const std::string sequence =
      R"({"format": 2, "inputs": [{"name": "x", "dtype": "f32", "shape": ["B", "L", 6]}, {"name": "index", "dtype": "i32", "shape": ["B", "M", 4]}],
"states": [{"name": "h", "dtype": "f32", "shape": ["B", 4]}, {"name": "tail", "dtype": "f32", "shape": ["B", 3, 6]}],
"prepare": [{"view": "slice", "in": "@table", "dim": 0, "start": 1, "length": 8, "step": 2, "out": "@rows"}],
"nodes": [{"op": "causal_conv1d", "args": {"x": "%x", "weight": "@taps", "initial_state": "$tail", "return_final_state": true}, "out": {"y": "%c", "final_state": "$tail"}},
{"op": "linear", "args": {"x": "%c", "weight": "@w_ih", "round_x": true}, "out": {"y": "%gates"}},
{"op": "gru", "args": {"gates": "%gates", "weight": "@w_hh", "initial": "$h"}, "out": {"y": "%y", "last": "$h"}},
{"view": "reshape", "in": "%y", "shape": ["B", "L", 2, 2], "out": "%q"},
{"op": "attention", "args": {"q": "%q", "k": "%q", "v": "%q", "scale": 0.5, "causal": true, "window": 3}, "out": {"y": "%att"}},
{"view": "permute", "in": "%y", "dims": [0, 2, 1], "out": "%t"},
{"op": "matmul", "args": {"x": "%y", "y": "%t"}, "out": {"out": "%mm"}},
{"op": "softmax", "args": {"x": "%mm"}, "out": {"y": "%sm"}},
{"view": "expand", "in": "@rows", "shape": ["B", 8, 4], "out": "%table"},
{"op": "gather", "args": {"x": "%table", "index": "%index"}, "out": {"y": "%found"}},
{"op": "scatter_add", "args": {"initial": "%table", "index": "%index", "x": "%found"}, "out": {"y": "%sums"}},
{"view": "expand", "in": "@constants.0", "shape": ["B", 150, 2], "out": "%long"},
{"op": "fft_convolution", "args": {"x": "%long", "kernel": "@kernel"}, "out": {"y": "%far"}},
{"op": "pad", "args": {"x": "%y", "before": "L", "after": 1}, "out": {"y": "%padded"}},
{"view": "slice", "in": "%padded", "dim": 1, "start": "L", "length": "(L + 2)//2", "step": 2, "out": "%some"}],
"outputs": [{"name": "att", "value": "%att"}, {"name": "sm", "value": "%sm"}, {"name": "sums", "value": "%sums"}, {"name": "far", "value": "%far"}, {"name": "some", "value": "%some"}]})";
  return {manifest, join(manifest, mamba, block), join(image_manifest, image, {{"pos", {1, 1, 1, 3}}}),
          join(maps_manifest, maps, {{"conv", {4, 1, 3, 3, 3}}, {"bias", {4}}, {"head", {5, 16}}}),
          join(sequence_manifest, sequence,
               {{"taps", {6, 4}}, {"w_ih", {12, 6}}, {"w_hh", {12, 4}}, {"table", {17, 4}}, {"kernel", {140, 2}}},
               {{"constants.0", {1, 150, 2}}})};
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
static bool errors_only(Action&& action) {
  try {
    action();
    return true;
  } catch (const mambasdk::Error&) {
    return false;
  }
}

namespace {

class QuietContext final : public mambasdk::Context {
 public:
  [[nodiscard]] mambasdk::Parallel parallel() const override { return mambasdk::default_context().parallel(); }
  [[nodiscard]] void* allocate(std::size_t bytes) const override { return mambasdk::default_context().allocate(bytes); }
  void release(void* data, std::size_t bytes) const noexcept override {
    mambasdk::default_context().release(data, bytes);
  }
};

// Inputs as the program declares them: every symbol `size`, small whole numbers.
struct Inputs {
  std::vector<std::vector<std::byte>> memory;
  std::vector<rt::NamedTensor> named;

  Inputs(const rt::Program& program, std::int64_t size, std::uint32_t seed) {
    for (const rt::TensorSpec& spec : program.inputs) {
      mambasdk::DType type{};
      if (!mambasdk::dtype_from_name(spec.dtype.c_str(), type)) continue;
      std::array<std::int64_t, mambasdk::kMaxDims> shape{};
      std::int64_t count = 1;
      for (std::size_t d = 0; d < spec.shape.size(); ++d) {
        shape[d] = spec.shape[d].symbol.empty() ? spec.shape[d].size : size;
        if (shape[d] < 0 || shape[d] > 1 << 12 || (count *= shape[d]) > 1 << 16) count = shape[d] = 0;
      }
      memory.emplace_back(static_cast<std::size_t>(count) * 16);
      for (std::size_t i = 0; i < memory.back().size(); i += 4) memory.back()[i] = static_cast<std::byte>(seed++ % 7);
      named.push_back({spec.name, mambasdk::Tensor::contiguous(memory.back().data(), type, shape.data(),
                                                               static_cast<int>(spec.shape.size()))});
    }
  }
};

// A folder of this process's own, where the package lies.
const std::filesystem::path& folder() {
  static const std::filesystem::path made = [] {
    const std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("fuzz_package_" + std::to_string(getpid()));
    std::filesystem::create_directories(path);
    std::atexit([] { std::filesystem::remove_all(folder()); });
    return path;
  }();
  return made;
}

void run_package(std::string_view manifest, std::string_view program, std::string_view weights,
                 std::string_view constants) {
  std::ofstream(folder() / "mambasdk.json", std::ios::binary) << manifest;
  std::ofstream(folder() / "program.json", std::ios::binary) << program;
  std::ofstream(folder() / "model.safetensors", std::ios::binary) << weights;
  std::ofstream(folder() / "constants.safetensors", std::ios::binary) << constants;
  rt::LoadOptions options;
  options.verify = rt::Verify::off;
  options.max_memory = kMemory;
  options.max_work = kWork;
  std::shared_ptr<const rt::Model> model;
  errors_only([&] { model = rt::load_model(folder(), options); });
  const auto* native = dynamic_cast<const rt::NativeModel*>(model.get());
  if (native == nullptr) return;
  std::vector<std::string_view> outputs;
  for (const auto& [name, value] : native->program().outputs) {
    if (outputs.size() < 8) outputs.push_back(name);
  }
  const auto session = model->new_session(std::make_unique<QuietContext>());
  const auto run = [&](rt::Session& s, std::int64_t size) {
    const Inputs inputs(native->program(), size, static_cast<std::uint32_t>(size));
    return errors_only([&] { (void)s.run(inputs.named, outputs); });
  };
  for (const std::int64_t size : {2, 0, 1, 5}) run(*session, size);
  std::vector<std::byte> image;
  if (!errors_only([&] { image = session->save(); })) return;
  const auto clone = session->clone();
  {
    const rt::Rollback rollback(*session);
    run(*session, 2);
  }
  std::vector<std::byte> again;
  errors_only([&] { again = session->save(); });
  if (again != image) std::abort();  // it was not taken back
  const auto other = model->new_session(std::make_unique<QuietContext>());
  if (!errors_only([&] { other->restore(image); })) std::abort();  // a state of this very model
  run(*other, 2);
  run(*clone, 2);
  for (const std::size_t at : {image.size() / 3, image.size() / 2, image.size() - 1}) {
    if (at >= image.size()) continue;
    std::vector<std::byte> damaged = image;
    damaged[at] ^= std::byte{0x10};
    if (errors_only([&] { other->restore(damaged); })) run(*other, 2);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view blob(reinterpret_cast<const char*>(data), size);
  const std::string_view manifest_text = take_part(blob);
  const std::string_view program_text = take_part(blob);
  errors_only([&] {
    const rt::Manifest manifest = rt::parse_manifest(manifest_text);
    for (const auto& [name, record] : manifest.files) rt::check_package_file_name(name, "files");
    (void)rt::parse_json(manifest.config_json, "config");
  });
  errors_only([&] {
    const auto weights = rt::Safetensors::from_bytes(std::as_bytes(std::span(blob)), "model.safetensors");
    for (const rt::StoredTensor& tensor : weights.tensors()) (void)rt::sha256_hex({tensor.data, tensor.size});
  });
  const std::size_t end = blob.find(kConstants);
  const std::string_view constants = end == std::string_view::npos ? "" : blob.substr(end + kConstants.size());
  if (!program_text.empty()) run_package(manifest_text, program_text, blob.substr(0, end), constants);
  return 0;
}
