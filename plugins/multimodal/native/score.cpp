#include "score.hpp"

#include <algorithm>
#include <cmath>

#include "mambasdk/plugin/json.hpp"

namespace mambasdk::multimodal {

namespace {

using nlohmann::json;

// -log2 of the probability of `token`.
double bits(std::span<const float> logits, std::int64_t token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float value : logits) sum += std::exp(value - largest);
  return (largest + std::log(sum) - logits[static_cast<std::size_t>(token)]) / std::log(2.0);
}

struct Sum {
  double bits = 0;
  std::int64_t tokens = 0;
  void add(double more) {
    bits += more;
    ++tokens;
  }
  void write(plugin::JsonWriter& to) const {
    to.key("tokens").number(tokens);
    to.key("bits_per_token").number(tokens == 0 ? std::nan("") : bits / static_cast<double>(tokens));
  }
};

// Steps [begin, end) of a contiguous tensor (1, L, …), where they lie.
template <class T>
TensorRef steps_of(const TensorView& tensor, std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> shape(tensor.shape().begin(), tensor.shape().end());
  const std::span<const T> data = tensor.data<T>();
  const std::size_t width = data.size() / static_cast<std::size_t>(shape[1]);
  shape[1] = end - begin;
  return {data.subspan(static_cast<std::size_t>(begin) * width, static_cast<std::size_t>(end - begin) * width), shape};
}

}  // namespace

std::int64_t Score::context_of(const plugin::Config& config, std::int64_t otherwise) {
  return config.integer("context", otherwise, 1, 1 << 24);
}

void Score::attach(plugin::Model& model) {
  plugin::JsonDocument description;
  (void)plugin::read_json(model.description(), {}, description);  // what is no JSON leaves null
  for (const json& entry : description->at("processors")) {
    if (entry.value("kind", "") != "multimodal") continue;
    modalities_.emplace(entry.at("modalities").get<std::vector<std::string>>(),
                        entry.at("ranges").get<std::vector<std::int64_t>>());
    has_latents_ = entry.value("latent_dim", std::int64_t{0}) > 0;
  }
  if (!modalities_) {
    plugin::invalid(
        "multimodal_lm: the package has no processor of kind multimodal, which says what the modalities are");
  }
}

void Score::run(plugin::Model& model, const plugin::Inputs& inputs, plugin::Emitter& emit) {
  const TensorView given = inputs["tokens"];
  if (given.shape().size() != 2 || given.shape()[0] != 1) {
    plugin::invalid("multimodal_lm: tokens: expected i32 (1, L), got " + plugin::to_text(given.shape()));
  }
  const std::span<const std::int32_t> tokens = given.data<std::int32_t>();
  const auto length = static_cast<std::int64_t>(tokens.size());
  const std::size_t last = modalities_->count() - 1;
  const std::int64_t context =
      inputs.has("options") ? context_of(plugin::Config(inputs["options"].bytes(), kind, options), context_) : context_;
  std::vector<Sum> sums(modalities_->count());
  Sum all;
  for (std::int64_t begin = 0; begin + 1 < length; begin += context) {
    const std::int64_t end = std::min(begin + context, length - 1);
    const auto piece = tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    std::vector<Named> own{{"tokens", steps_of<std::int32_t>(given, begin, end)}};
    if (has_latents_) {
      for (const char* name : {"latents", "times"}) own.push_back({name, steps_of<float>(inputs[name], begin, end)});
    }
    const std::string_view wanted = "logits";
    const std::vector<Tensor> made = model.run(own, std::span(&wanted, 1));
    const TensorView logits("logits", made[0].get()->tensor);
    const std::span<const float> rows = logits.data<float>();  // (1, end - begin, V)
    const std::size_t width = rows.size() / piece.size();
    for (std::size_t t = 0; t < piece.size(); ++t) {
      const std::int64_t target = tokens[static_cast<std::size_t>(begin) + t + 1];
      const std::size_t modality = modalities_->of(target);
      if (has_latents_ && modality == last && modalities_->of(piece[t]) == last) continue;
      if (target < 0 || target >= static_cast<std::int64_t>(width)) {
        plugin::invalid("multimodal_lm: token " + std::to_string(target) + ", expected 0 to " +
                        std::to_string(width - 1));
      }
      const double cost = bits(rows.subspan(t * width, width), target);
      all.add(cost);
      sums[modality].add(cost);
    }
  }
  plugin::JsonWriter said;
  said.open('{');
  all.write(said);
  said.key("modalities").open('[');
  for (std::size_t m = 0; m < sums.size(); ++m) {
    said.open('{').key("modality").string(modalities_->name(m));
    sums[m].write(said);
    said.close('}');
  }
  said.close(']').close('}');
  emit.json(said.text());
}

}  // namespace mambasdk::multimodal
