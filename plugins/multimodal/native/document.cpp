#include "document.hpp"

#include <cmath>
#include <limits>

#include "mambasdk/plugin/json.hpp"

namespace mambasdk::multimodal {

namespace {

using nlohmann::json;

constexpr plugin::JsonLimits kLimits{
    .max_bytes = std::size_t{256} << 20, .max_depth = 8, .max_values = std::size_t{64} << 20};
constexpr std::int64_t kMostLatents = std::int64_t{1} << 28;  // numbers of a document

Modalities modalities_of(const plugin::Config& config) {
  std::vector<std::string> names = config.strings("modalities");
  const std::vector<std::int64_t> none(names.size(), 0);
  return {std::move(names), config.integers("ranges", none, 1, INT32_MAX)};
}

std::string path_of(std::string_view directory, const std::string& file) {
  return directory.empty() ? file : std::string(directory) + "/" + file;
}

void check_keys(const json& object, std::initializer_list<std::string_view> known, const std::string& where) {
  if (!object.is_object()) plugin::invalid(where + ": expected an object, got " + plugin::quoted(object));
  for (const auto& [key, unused] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      plugin::invalid(where + ": the key \"" + plugin::quoted(std::string_view(key)) + "\" is unknown");
    }
  }
}

float number(const json& value, const std::string& where) {
  if (!value.is_number() || !(std::abs(value.get<double>()) <= std::numeric_limits<float>::max())) {
    plugin::invalid(where + ": expected finite numbers that float32 holds, got " + plugin::quoted(value));
  }
  return value.get<float>();
}

// A document on its way into tensors.
class Reader {
 public:
  Reader(const Modalities& modalities, std::int64_t latent_dim, const Tokenizer* tokenizer)
      : modalities_(modalities), latent_dim_(latent_dim), tokenizer_(tokenizer) {}

  void segment(const json& segment, std::size_t index) {
    const std::string where = "multimodal: segment " + std::to_string(index);
    check_keys(segment, {"modality", "text", "tokens", "latents"}, where);
    const auto named = segment.find("modality");
    if (named == segment.end() || !named->is_string()) plugin::invalid(where + ": expected a \"modality\", a name");
    const std::size_t modality = modalities_.find(named->get<std::string>(), where);
    const auto text = segment.find("text"), tokens = segment.find("tokens"), latents = segment.find("latents");
    if ((text != segment.end()) + (tokens != segment.end()) + (latents != segment.end()) != 1) {
      plugin::invalid(where + ": expected one of \"text\", \"tokens\" and \"latents\"");
    }
    const bool is_latent = latent_dim_ > 0 && modality + 1 == modalities_.count();
    if (is_latent != (latents != segment.end())) {
      plugin::invalid(where + ": " + modalities_.name(modality) + (is_latent ? " is" : " has no") +
                      " latent vectors of this model");
    }
    if (text != segment.end()) return add_text(*text, modality, where);
    if (tokens != segment.end()) return add_tokens(*tokens, modality, where);
    add_latents(*latents, modality, where);
  }

  DocumentTokens take() {
    latents_.resize(tokens_.size() * static_cast<std::size_t>(latent_dim_));
    return {std::move(tokens_), std::move(latents_)};
  }

 private:
  void add(std::int64_t token, std::size_t modality, const std::string& where) {
    if (token < 0 || token >= modalities_.size(modality)) {
      plugin::invalid(where + ": token " + std::to_string(token) + " of " + modalities_.name(modality) +
                      ", expected 0 to " + std::to_string(modalities_.size(modality) - 1));
    }
    tokens_.push_back(static_cast<std::int32_t>(modalities_.first(modality) + token));
    if (static_cast<std::int64_t>(tokens_.size()) * latent_dim_ > kMostLatents) {
      plugin::invalid(where + ": with " + std::to_string(latent_dim_) + " numbers for each token more than " +
                      std::to_string(kMostLatents) + " of a document");
    }
  }

  void add_text(const json& text, std::size_t modality, const std::string& where) {
    if (!text.is_string()) plugin::invalid(where + ": text: expected a string, got " + plugin::quoted(text));
    const auto& said = text.get_ref<const std::string&>();
    if (tokenizer_ != nullptr) {
      for (const std::int32_t token : tokenizer_->encode(said, false)) add(token, modality, where);
    } else {
      for (const char c : said) add(static_cast<unsigned char>(c), modality, where);
    }
  }

  void add_tokens(const json& tokens, std::size_t modality, const std::string& where) {
    if (!tokens.is_array()) plugin::invalid(where + ": tokens: expected a list, got " + plugin::quoted(tokens));
    for (const json& token : tokens) {
      const bool fits =
          token.is_number_integer() && !(token.is_number_unsigned() && token.get<std::uint64_t>() > INT64_MAX);
      if (!fits) plugin::invalid(where + ": tokens: expected whole numbers, got " + plugin::quoted(token));
      add(token.get<std::int64_t>(), modality, where);
    }
  }

  void add_latents(const json& latents, std::size_t modality, const std::string& where) {
    if (!latents.is_array()) plugin::invalid(where + ": latents: expected a list, got " + plugin::quoted(latents));
    latents_.resize(tokens_.size() * static_cast<std::size_t>(latent_dim_));
    for (const json& vector : latents) {
      if (!vector.is_array() || static_cast<std::int64_t>(vector.size()) != latent_dim_) {
        plugin::invalid(where + ": latents: expected lists of " + std::to_string(latent_dim_) + " numbers, got " +
                        plugin::quoted(vector));
      }
      add(0, modality, where);
      for (const json& value : vector) latents_.push_back(number(value, where + ": latents"));
    }
  }

  const Modalities& modalities_;
  std::int64_t latent_dim_;
  const Tokenizer* tokenizer_;
  std::vector<std::int32_t> tokens_;
  std::vector<float> latents_;  // of the tokens up to the last latent one
};

}  // namespace

Document::Document(const plugin::Config& config, std::string_view directory)
    : modalities_(modalities_of(config)), latent_dim_(config.integer("latent_dim", 0, 0, 1 << 20)) {
  if (config.has("file")) tokenizer_ = std::make_unique<Tokenizer>(path_of(directory, config.text("file", "")));
}

void Document::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  DocumentTokens made = read_document(inputs["document"].bytes(), modalities_, latent_dim_, tokenizer_.get());
  const auto length = static_cast<std::int64_t>(made.tokens.size());
  emit("tokens", std::move(made.tokens), {1, length});
  if (latent_dim_ == 0) return;
  emit("latents", std::move(made.latents), {1, length, latent_dim_});
  emit("times", std::vector<float>(static_cast<std::size_t>(length)), {1, length});
}

DocumentTokens read_document(std::string_view text, const Modalities& modalities, std::int64_t latent_dim,
                             const Tokenizer* tokenizer) {
  plugin::JsonDocument document;
  if (const auto fault = plugin::read_json(text, kLimits, document)) {
    throw Error(MAMBASDK_ERROR_CORRUPT, "multimodal",
                "multimodal: no JSON at byte " + std::to_string(fault->at) + ": " + fault->reason);
  }
  check_keys(*document, {"segments", "name"}, "multimodal");
  const auto segments = document->find("segments");
  if (segments == document->end() || !segments->is_array()) {
    plugin::invalid("multimodal: expected \"segments\", a list");
  }
  Reader reader(modalities, latent_dim, tokenizer);
  std::size_t index = 0;
  for (const json& segment : *segments) reader.segment(segment, index++);
  return reader.take();
}

}  // namespace mambasdk::multimodal
