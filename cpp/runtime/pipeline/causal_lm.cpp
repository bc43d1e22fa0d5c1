#include "runtime/pipeline/causal_lm.hpp"

#include <nlohmann/json.hpp>

#include "mambasdk/plugin/json.hpp"
#include "runtime/generation/generate.hpp"
#include "runtime/package/json.hpp"
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
  const JsonDocument document = parse_json(json, source);
  const nlohmann::json& given = *document;
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

class CausalLmHead final : public Head {
 public:
  explicit CausalLmHead(std::string_view config) {
    defaults_.sampling.temperature = 0.0;
    apply(config, "head_options", defaults_);
  }

  void attach(const HeadModel& model) override {
    check_generates_text(model.model());
    const Package& package = model.model().package();
    tokenizer_ = package_tokenizer(package);
    defaults_.end_tokens = package.manifest().text->eos_token_ids;
  }

  void run(const HeadRun& run, Result& result) override {
    GenerateOptions wanted = defaults_;
    std::span<const std::int32_t> prompt;
    for (const NamedTensor& input : run.inputs()) {
      if (input.name == "options") apply(bytes_of(input.tensor, "options"), "options", wanted);
      if (input.name == "tokens") prompt = tokens_of(input.tensor);
    }
    std::string made;
    wanted.on_text = [&](std::string_view piece) {
      made += piece;
      return !run.on_text || run.on_text(piece);
    };
    const GenerateResult done = generate(run.model->session(), *tokenizer_, prompt, wanted);
    plugin::JsonWriter json;
    json.open('{');
    json.key("text").string(made);
    json.key("prompt_tokens").number(done.prompt_tokens);
    json.key("new_tokens").number(done.new_tokens);
    json.close('}');
    result.add_text("text", made);
    result.add_text("json", json.take());
  }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  GenerateOptions defaults_;
};

}  // namespace

ProcessorKind causal_lm_head() {
  return {Role::head,
          "causal_lm",
          "Continues the text of the slot `text`, token by token.",
          "mambasdk",
          {},
          [](std::string_view config, std::string_view) { return std::make_unique<CausalLmHead>(config); }};
}

}  // namespace mambasdk::runtime
