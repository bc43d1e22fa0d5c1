#include "conversation.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mambasdk/plugin/json.hpp"

namespace mambasdk::multimodal {

namespace {

using nlohmann::json;

constexpr plugin::JsonLimits kLimits{
    .max_bytes = std::size_t{512} << 20, .max_depth = 8, .max_values = std::size_t{64} << 20};
constexpr std::int64_t kMostNumbers = std::int64_t{1} << 28;  // of a modality

void check_keys(const json& object, std::initializer_list<std::string_view> known, const std::string& where) {
  if (!object.is_object()) plugin::invalid(where + ": expected an object, got " + plugin::quoted(object));
  for (const auto& [key, unused] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      plugin::invalid(where + ": the key \"" + plugin::quoted(std::string_view(key)) + "\" is unknown");
    }
  }
}

// The speakers of one conversation by number.
class Speakers {
 public:
  std::int64_t number(const json& utterance, const std::string& where) {
    const auto said = utterance.find("speaker");
    if (said == utterance.end() || said->is_null()) return checked(Kind::none, 0, where);
    if (said->is_string()) {
      const auto next = static_cast<std::int64_t>(names_.size());
      return checked(Kind::name, names_.emplace(said->get<std::string>(), next).first->second, where);
    }
    const bool fits = said->is_number_integer() && said->get<double>() >= 0 && said->get<double>() <= INT32_MAX;
    if (!fits) {
      plugin::invalid(where + ": speaker: expected a name or a whole number from 0, got " + plugin::quoted(*said));
    }
    return checked(Kind::number, said->get<std::int64_t>(), where);
  }

 private:
  enum class Kind { undecided, none, name, number };

  std::int64_t checked(Kind kind, std::int64_t value, const std::string& where) {
    if (kind_ == Kind::undecided) kind_ = kind;
    if (kind != kind_) {
      plugin::invalid(where + ": speaker: expected a name of all utterances, a number of all, or none of any");
    }
    return value;
  }

  Kind kind_ = Kind::undecided;
  std::map<std::string, std::int64_t> names_;
};

// Reads a vector into `out`; false for null.
bool read_vector(const json& value, std::span<float> out, const std::string& where) {
  if (value.is_null()) return false;
  if (value.is_string()) {
    plugin::invalid(where + ": a file's name, \"" + plugin::quoted(value) +
                    "\"; only numbers are read here: write the conversation with its numbers "
                    "(mambasdk_multimodal.conversations.save_conversation)");
  }
  if (!value.is_array() || value.size() != out.size()) {
    plugin::invalid(where + ": expected " + std::to_string(out.size()) + " numbers, got " + plugin::quoted(value));
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    const json& number = value[i];
    if (!number.is_number() || !(std::abs(number.get<double>()) <= std::numeric_limits<float>::max())) {
      plugin::invalid(where + ": expected finite numbers that float32 holds, got " + plugin::quoted(number));
    }
    out[i] = number.get<float>();
  }
  return true;
}

}  // namespace

Conversation::Conversation(const plugin::Config& config)
    : modalities_(config.strings("modalities")),
      dims_(config.integer_list("in_dims", 1, 1 << 24)),
      max_speakers_(config.integer("max_speakers", 0, 0, INT32_MAX)) {
  if (modalities_.empty() || modalities_.size() != dims_.size()) {
    plugin::invalid("conversation: in_dims: expected one number for each of " + std::to_string(modalities_.size()) +
                    " modalities, at least one, got " + plugin::to_text(dims_));
  }
}

void Conversation::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  plugin::JsonDocument document;
  if (const auto fault = plugin::read_json(inputs["conversation"].bytes(), kLimits, document)) {
    throw Error(MAMBASDK_ERROR_CORRUPT, "conversation",
                "conversation: no JSON at byte " + std::to_string(fault->at) + ": " + fault->reason);
  }
  check_keys(*document, {"utterances", "features", "name"}, "conversation");
  const auto utterances = document->find("utterances");
  if (utterances == document->end() || !utterances->is_array() || utterances->empty()) {
    plugin::invalid("conversation: expected \"utterances\", a list of at least one");
  }
  const auto length = static_cast<std::int64_t>(utterances->size());
  const std::size_t count = modalities_.size();
  std::vector<std::vector<float>> values(count);
  for (std::size_t m = 0; m < count; ++m) {
    if (length > kMostNumbers / dims_[m]) {
      plugin::invalid("conversation: " + std::to_string(length) + " utterances of " + std::to_string(dims_[m]) +
                      " numbers are more than " + std::to_string(kMostNumbers));
    }
    values[m].resize(static_cast<std::size_t>(length * dims_[m]));
  }
  std::vector<std::int64_t> present(static_cast<std::size_t>(length) * count), speakers;
  const auto take = [&](const json& value, std::size_t utterance, const std::string& modality,
                        const std::string& where) {
    const auto named = std::find(modalities_.begin(), modalities_.end(), modality);
    if (named == modalities_.end()) {
      std::string known;
      for (const std::string& each : modalities_) known += (known.empty() ? "" : ", ") + each;
      plugin::invalid(where + ": no modality \"" + plugin::quoted(std::string_view(modality)) + "\"; the model has " +
                      known);
    }
    const auto m = static_cast<std::size_t>(named - modalities_.begin());
    const auto width = static_cast<std::size_t>(dims_[m]);
    if (!read_vector(value, std::span(values[m]).subspan(utterance * width, width), where + ": " + modality)) return;
    std::int64_t& shown = present[utterance * count + m];
    if (shown != 0) plugin::invalid(where + ": " + modality + " twice, with the utterance and with the conversation");
    shown = 1;
  };
  Speakers numbers;
  for (std::size_t u = 0; u < utterances->size(); ++u) {
    const json& utterance = (*utterances)[u];
    const std::string where = "conversation: utterance " + std::to_string(u);
    check_keys(utterance, {"speaker", "features", "text", "label"}, where);
    speakers.push_back(numbers.number(utterance, where));
    if (max_speakers_ > 0 && speakers.back() >= max_speakers_) {
      plugin::invalid(where + ": speaker " + std::to_string(speakers.back()) + ", counted from 0; the model knows " +
                      std::to_string(max_speakers_) +
                      " speakers of a conversation: train it with n_speakers, or with unknown_speakers \"hash\"");
    }
    const auto features = utterance.find("features");
    if (features == utterance.end() || features->is_null()) continue;
    if (!features->is_object()) {
      plugin::invalid(where + ": features: expected an object, got " + plugin::quoted(*features));
    }
    for (const auto& [modality, value] : features->items()) take(value, u, modality, where);
  }
  if (const auto shared = document->find("features"); shared != document->end() && !shared->is_null()) {
    if (!shared->is_object()) {
      plugin::invalid("conversation: features: expected an object, got " + plugin::quoted(*shared));
    }
    for (const auto& [modality, rows] : shared->items()) {
      if (rows.is_null()) continue;
      if (!rows.is_array() || rows.size() != utterances->size()) {
        plugin::invalid("conversation: features: " + plugin::quoted(std::string_view(modality)) +
                        ": expected a list of " + std::to_string(length) + " vectors, got " + plugin::quoted(rows));
      }
      for (std::size_t u = 0; u < rows.size(); ++u) {
        take(rows[u], u, modality, "conversation: features: utterance " + std::to_string(u));
      }
    }
  }
  for (std::size_t m = 0; m < count; ++m) emit(modalities_[m], std::move(values[m]), {1, length, dims_[m]});
  emit("speakers", std::move(speakers), {1, length});
  emit("present", std::move(present), {1, length, static_cast<std::int64_t>(count)});
}

}  // namespace mambasdk::multimodal
