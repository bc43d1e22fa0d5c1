// Opening a package of compiled code, and running it with states.
#include "aoti/model.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "runtime/engine/views.hpp"
#include "runtime/package/json.hpp"
#include "runtime/package/package.hpp"

namespace mambasdk::aoti {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

#if defined(__x86_64__)
constexpr std::string_view machine = "x86_64";
#elif defined(__aarch64__) && defined(__APPLE__)
constexpr std::string_view machine = "arm64";
#elif defined(__aarch64__)
constexpr std::string_view machine = "aarch64";
#endif
#if defined(__APPLE__)
constexpr std::string_view operating_system = "darwin";
#else
constexpr std::string_view operating_system = "linux";
#endif
constexpr std::array<std::string_view, 5> instruction_sets{"baseline", "avx2", "avx512", "avx512_bf16", "avx512_amx"};

std::size_t rank(std::string_view isa) {
  return static_cast<std::size_t>(std::find(instruction_sets.begin(), instruction_sets.end(), isa) -
                                  instruction_sets.begin());
}

// "2.13" of "2.13.0".
std::string_view minor_version(std::string_view version) {
  return version.substr(0, version.find('.', version.find('.') + 1));
}

constexpr std::string_view export_again = "export it again there: mambasdk export PACKAGE --engine aoti --out DIR";

void check_torch(const json& engine, const std::string& where) {
  const std::string wanted = runtime::json_string_at(engine, "torch", where);
  const std::string& found = libtorch().version;
  if (minor_version(wanted) != minor_version(found)) {
    fail(ErrorCode::version, where, ": the model was compiled for torch ", minor_version(wanted), " (exported with ",
         runtime::printable(wanted), "), this process has torch ", found, "; load libtorch ", minor_version(wanted),
         ".x, or ", export_again);
  }
}

void check_target(const json& engine, const std::string& where, std::string_view detected_isa) {
  const json& target = runtime::json_at(engine, "target", where);
  const std::string target_where = where + ".target";
  const std::string wanted_system = runtime::json_string_at(target, "system", target_where);
  const std::string wanted_machine = runtime::json_string_at(target, "machine", target_where);
  if (wanted_system != operating_system || wanted_machine != machine) {
    fail(ErrorCode::unsupported, where, ": the model was compiled for ", runtime::printable(wanted_system), " on ",
         runtime::printable(wanted_machine), ", this is ", operating_system, " on ", machine, "; ", export_again);
  }
  const std::string isa = runtime::json_string_at(target, "isa", target_where);
  if (rank(isa) > rank(detected_isa) || rank(isa) == instruction_sets.size()) {
    fail(ErrorCode::unsupported, where, ": the model was compiled for the instruction set ", runtime::printable(isa),
         ", this machine has ", detected_isa,
         "; export it for a lesser one: mambasdk export PACKAGE --engine aoti "
         "--isa ",
         detected_isa, " --out DIR");
  }
}

template <class From>
runtime::OwnedTensor widened(const Tensor& t) {
  runtime::OwnedTensor out = runtime::OwnedTensor::allocate(dtype::f32, t.shape.data(), t.ndim);
  const From* from = t.ptr<From>();
  std::transform(from, from + t.numel(), out.view.ptr<float>(), [](From x) { return to_float(x); });
  return out;
}

Tensor contiguous(const Tensor& t, std::vector<runtime::OwnedTensor>& copies) {
  if (t.is_contiguous()) return Tensor::contiguous(t.data, t.dtype, t.shape.data(), t.ndim);
  copies.push_back(runtime::OwnedTensor::allocate(t.dtype, t.shape.data(), t.ndim));
  runtime::copy_strided(t, copies.back().view.data);
  return copies.back().view;
}

std::string listed(const std::vector<runtime::TensorSpec>& specs) {
  std::string text;
  for (const runtime::TensorSpec& spec : specs) text += (text.empty() ? "" : ", ") + spec.name;
  return text;
}

}  // namespace

Model::Model(const fs::path& directory, std::string_view manifest, std::string_view detected_isa)
    : manifest_(runtime::parse_manifest(manifest)) {
  const std::string where = (directory / runtime::kManifestFile).string() + ": engine";
  const runtime::JsonDocument document = runtime::parse_json(manifest, where);
  const json& root = *document;
  const json& engine = runtime::json_at(root, "engine", where);
  check_target(engine, where, detected_isa);
  check_torch(engine, where);
  const runtime::Package package = runtime::Package::open(directory);
  states_ = runtime::state_specs(manifest_.states);
  if (const json* aliases = runtime::json_find(engine, "aliases")) {
    for (const auto& [name, stored] : runtime::json_object(*aliases, where + ".aliases").items()) {
      aliases_.emplace(name, runtime::json_string(stored, where + ".aliases"));
    }
  }
  files_.push_back(runtime::Safetensors::open(package.file_path(runtime::kWeightsFile)));
  if (const std::string constants = runtime::json_string_or(engine, "constants", "", where); !constants.empty()) {
    files_.push_back(runtime::Safetensors::open(package.file_path(constants)));
  }
  register_operations_with_torch();
  compiled_ =
      std::make_unique<CompiledModel>(package.file_path(runtime::json_string_at(engine, "file", where)),
                                      [this](std::string_view name, DType wanted) { return weight(name, wanted); });
  if (compiled_->input_count() != inputs().size() + states_.size() ||
      compiled_->output_count() != outputs().size() + states_.size()) {
    fail(ErrorCode::corrupt, where, ": the compiled model takes ", compiled_->input_count(), " tensors and gives ",
         compiled_->output_count(), "; the manifest lists ", inputs().size(), " inputs, ", outputs().size(),
         " outputs and ", states_.size(), " states");
  }
}

Tensor Model::weight(std::string_view name, DType wanted) {
  const auto alias = aliases_.find(name);
  const std::string_view stored_name = alias == aliases_.end() ? name : alias->second;
  const runtime::StoredTensor* stored = nullptr;
  for (const runtime::Safetensors& file : files_) {
    if (stored == nullptr) stored = file.find(stored_name);
  }
  if (stored == nullptr) {
    fail(ErrorCode::corrupt, "the compiled model needs the weight ", stored_name, ", which the package does not have");
  }
  const DType type = runtime::stored_dtype(*stored);
  // The model never writes to a weight; Tensor has one pointer type for both uses.
  const Tensor t = Tensor::contiguous(const_cast<std::byte*>(stored->data), type, stored->shape.data(),
                                      static_cast<int>(stored->shape.size()));
  if (type == wanted) return t;
  if (wanted == dtype::f32 && type == dtype::bf16) {
    converted_.push_back(widened<bf16>(t));
  } else if (wanted == dtype::f32 && type == dtype::f16) {
    converted_.push_back(widened<f16>(t));
  } else {
    fail(ErrorCode::corrupt, "weight ", stored_name, " is stored as ", dtype_name(type), ", the compiled model takes ",
         dtype_name(wanted));
  }
  return converted_.back().view;
}

std::vector<std::size_t> Session::find_outputs(std::span<const std::string_view> names) const {
  const auto& specs = model_->outputs();
  std::vector<std::size_t> found;
  for (const std::string_view name : names) {
    const auto at = std::find_if(specs.begin(), specs.end(), [&](auto& spec) { return spec.name == name; });
    if (at == specs.end()) {
      fail(ErrorCode::invalid_argument, "the model has no output ", name, "; it has ", listed(specs));
    }
    found.push_back(static_cast<std::size_t>(at - specs.begin()));
  }
  return found;
}

std::vector<runtime::OwnedTensor> Session::run(std::span<const NamedTensor> inputs,
                                               std::span<const std::string_view> outputs) {
  const auto& specs = model_->inputs();
  std::vector<Tensor> given;
  std::vector<runtime::OwnedTensor> copies;
  for (const runtime::TensorSpec& spec : specs) {
    const auto found = std::find_if(inputs.begin(), inputs.end(), [&](auto& n) { return n.name == spec.name; });
    if (found == inputs.end()) fail(ErrorCode::invalid_argument, "input ", spec.name, " is missing");
    given.push_back(contiguous(found->tensor, copies));
  }
  if (inputs.size() != specs.size()) {
    fail(ErrorCode::invalid_argument, "got ", inputs.size(), " inputs, expected these, each once: ", listed(specs));
  }
  const std::vector<std::size_t> wanted = find_outputs(outputs);
  const bool fresh = states_.empty();
  try {
    states_.bind(runtime::bind_symbols(specs, given));
    for (std::size_t i = 0; i < states_.size(); ++i) given.push_back(states_.now(i));
    const std::vector<TensorHandle> results = model_->compiled().run(given);
    std::vector<runtime::OwnedTensor> made;
    for (const std::size_t index : wanted) {
      const Tensor t = view(results[index].get());
      made.push_back(runtime::OwnedTensor::allocate(t.dtype, t.shape.data(), t.ndim));
      runtime::copy_strided(t, made.back().view.data);
    }
    for (std::size_t i = 0; i < states_.size(); ++i) {
      const Tensor t = view(results[model_->outputs().size() + i].get());
      const Tensor& next = states_.next(i);
      if (t.dtype != next.dtype || t.ndim != next.ndim ||
          !std::equal(t.shape.begin(), t.shape.begin() + t.ndim, next.shape.begin())) {
        fail(ErrorCode::corrupt, "state ", model_->states()[i].name, " came back as ", dtype_name(t.dtype), " ",
             t.shape_text(), ", expected ", dtype_name(next.dtype), " ", next.shape_text());
      }
      runtime::copy_strided(t, next.data);
    }
    for (std::size_t i = 0; i < states_.size(); ++i) states_.advance(i);
    return made;
  } catch (...) {
    if (fresh) states_.clear();
    throw;
  }
}

std::vector<std::byte> Session::save() const {
  return states_.save({{"family", model_->manifest().family}, {"variant", model_->manifest().variant}});
}

}  // namespace mambasdk::aoti
