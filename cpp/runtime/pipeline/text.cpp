#include "runtime/pipeline/text.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

namespace {

// Text in; emits tokens: i32 (1, L).
class TextToTokens final : public Processor {
 public:
  explicit TextToTokens(std::unique_ptr<Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {}

  void run(const Context&, std::span<const NamedTensor> inputs, Result& result) override {
    if (inputs.size() != 1) {
      fail(ErrorCode::invalid_argument, "the text processor takes one input, the text; got ", inputs.size());
    }
    const auto tokens = tokenizer_->encode(bytes_of(inputs[0].tensor, inputs[0].name), /*add_special=*/true);
    const std::int64_t shape[] = {1, static_cast<std::int64_t>(tokens.size())};
    OwnedTensor out = OwnedTensor::allocate(dtype::i32, shape, 2);  // (1, L)
    std::copy(tokens.begin(), tokens.end(), out.view.ptr<std::int32_t>());
    result.add("tokens", std::move(out));
  }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
};

std::unique_ptr<Processor> make_bytes(std::string_view config, std::string_view) {
  const JsonDocument options = parse_json(config, "bytes");
  return std::make_unique<TextToTokens>(Tokenizer::bytes(json_string_or(*options, "mask_token", "", "bytes")));
}

std::unique_ptr<Processor> make_tokenizer(std::string_view config, std::string_view directory) {
  const std::string where = "tokenizer";
  const JsonDocument document = parse_json(config, where);
  const nlohmann::json& options = *document;
  const std::string file = json_string_at(options, "file", where);
  if (directory.empty()) return std::make_unique<TextToTokens>(Tokenizer::from_file(file));
  check_package_file_name(file, where);
  return std::make_unique<TextToTokens>(Tokenizer::from_file(std::filesystem::path(directory) / file));
}

}  // namespace

std::span<const std::int32_t> tokens_of(const Tensor& tensor) {
  if (tensor.dtype != dtype::i32 || tensor.ndim != 2 || tensor.size(0) != 1 || !tensor.is_contiguous() ||
      tensor.device != Device::cpu) {
    fail(ErrorCode::invalid_argument, "tokens is ", dtype_name(tensor.dtype), " ", tensor.shape_text(),
         ", expected a contiguous i32 (1, L) on the CPU");
  }
  return {tensor.ptr<const std::int32_t>(), static_cast<std::size_t>(tensor.numel())};
}

std::vector<ProcessorKind> text_processors() {
  return {
      {Role::processor, "bytes", "Text to token ids, one per byte: tokens i32 (1, L).", "mambasdk", make_bytes},
      {Role::processor, "tokenizer", "Text to token ids by a tokenizer.json: tokens i32 (1, L).", "mambasdk",
       make_tokenizer},
  };
}

std::unique_ptr<Tokenizer> package_tokenizer(const Package& package) {
  const Manifest& manifest = package.manifest();
  if (!manifest.text) {
    fail(ErrorCode::unsupported, package.directory().string(),
         " has no text processor; run its named tensors with session_run");
  }
  const std::string& kind = manifest.text->kind;
  if (kind != "bytes" && kind != "tokenizer") {
    fail(ErrorCode::unsupported, package.directory().string(), ": its text processor is \"", printable(kind),
         "\"; this library knows \"bytes\" and \"tokenizer\"; run its named tensors with session_run");
  }
  const auto path = package.tokenizer_path();
  return path ? Tokenizer::from_file(*path) : Tokenizer::bytes(manifest.text->mask_token);
}

}  // namespace mambasdk::runtime
