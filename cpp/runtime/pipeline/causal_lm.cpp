// The pipeline of a language model: text in, its continuation out.
#include <nlohmann/json.hpp>

#include "runtime/generation/generate.hpp"
#include "runtime/package/json.hpp"
#include "runtime/pipeline/pipeline.hpp"
#include "runtime/pipeline/text.hpp"

namespace mambasdk::runtime {

namespace {

constexpr std::string_view kOptionNames =
    "max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop";

double number(const nlohmann::json& value, const std::string& where) {
  if (!value.is_number()) fail(ErrorCode::invalid_argument, where, " must be a number");
  return value.get<double>();
}

std::int64_t count(const nlohmann::json& value, const std::string& where, std::int64_t largest) {
  if (!value.is_number_integer() || value < 0 || value > largest) {
    fail(ErrorCode::invalid_argument, where, " must be an integer from 0 to ", largest);
  }
  return value.get<std::int64_t>();
}

std::string text(const nlohmann::json& value, const std::string& where) {
  if (!value.is_string()) fail(ErrorCode::invalid_argument, where, " must be a text or a list of texts");
  return value.get<std::string>();
}

// Sets what `json` names; the rest stays.
void apply(std::string_view json, const std::string& source, GenerateOptions& options) {
  const nlohmann::json given = parse_json(json, source);
  for (const auto& [key, value] : json_object(given, source).items()) {
    const std::string where = concat(source, ".", printable(key));
    if (key == "max_new_tokens") {
      options.max_new_tokens = count(value, where, std::int64_t{1} << 40);
    } else if (key == "temperature") {
      options.sampling.temperature = number(value, where);
    } else if (key == "top_k") {
      options.sampling.top_k = static_cast<std::int32_t>(count(value, where, INT32_MAX));
    } else if (key == "top_p") {
      options.sampling.top_p = number(value, where);
    } else if (key == "min_p") {
      options.sampling.min_p = number(value, where);
    } else if (key == "repetition_penalty") {
      options.sampling.repetition_penalty = number(value, where);
    } else if (key == "seed") {
      options.sampling.seed = static_cast<std::uint64_t>(count(value, where, INT64_MAX));
    } else if (key == "stop") {
      options.stop.clear();
      if (value.is_array()) {
        for (const auto& item : value) options.stop.push_back(text(item, where));
      } else {
        options.stop.push_back(text(value, where));
      }
    } else {
      fail(ErrorCode::invalid_argument, where, " is no option of the head causal_lm; it has ", kOptionNames);
    }
  }
}

class TextPipeline final : public Pipeline {
 public:
  TextPipeline(const Model& model, std::unique_ptr<Context> context)
      : tokenizer_(package_tokenizer(model.package())), session_(model.new_session(std::move(context))) {
    const Manifest& manifest = model.package().manifest();
    defaults_.sampling.temperature = 0.0;
    apply(manifest.head_options_json, "head_options", defaults_);
    if (manifest.text->eos_token_id) defaults_.end_token = static_cast<std::int32_t>(*manifest.text->eos_token_id);
  }

  Result run(std::span<const NamedTensor> inputs, const PipelineOptions& options) override {
    if (inputs.size() != 1 || inputs[0].name != "text") {
      fail(ErrorCode::invalid_argument, "the pipeline takes one input, text (u8); got ", inputs.size(),
           inputs.empty() ? "" : ", the first is ", inputs.empty() ? "" : printable(inputs[0].name));
    }
    GenerateOptions wanted = defaults_;
    if (!options.json.empty()) apply(options.json, "options", wanted);
    std::string made;
    wanted.on_text = [&](std::string_view piece) {
      made += piece;
      return !options.on_text || options.on_text(piece);
    };
    const GenerateResult done = generate(*session_, *tokenizer_, bytes_of(inputs[0].tensor, "text"), wanted);
    const nlohmann::ordered_json json = {
        {"text", made}, {"prompt_tokens", done.prompt_tokens}, {"new_tokens", done.new_tokens}};
    Result result;
    result.add_text("text", made);
    result.add_text("json", json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return result;
  }

  void reset() override { session_->reset(); }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Session> session_;
  GenerateOptions defaults_;
};

}  // namespace

std::unique_ptr<Pipeline> make_text_pipeline(const Model& model, std::unique_ptr<Context> context) {
  return std::make_unique<TextPipeline>(model, std::move(context));
}

}  // namespace mambasdk::runtime
