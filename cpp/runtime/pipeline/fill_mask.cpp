#include "runtime/pipeline/fill_mask.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "mambasdk/plugin/ranking.hpp"
#include "runtime/package/json.hpp"
#include "runtime/pipeline/ranked.hpp"
#include "runtime/pipeline/text.hpp"

namespace mambasdk::runtime {

namespace {

class FillMaskHead final : public Head {
 public:
  explicit FillMaskHead(std::string_view config) { options_.apply(config, "head_options", {"top_k"}); }

  void attach(const HeadModel& model) override {
    const Package& package = model.model().package();
    tokenizer_ = package_tokenizer(package);
    spelling_ = package.manifest().text->mask_token;
    const auto id = spelling_.empty() ? std::nullopt : tokenizer_->token_to_id(spelling_);
    if (!id) {
      fail(ErrorCode::unsupported, package.directory().string(), ": its text processor has no mask_token",
           spelling_.empty() ? "" : concat(" ", printable(spelling_)), ", which the head fill_mask needs");
    }
    mask_ = *id;
  }

  void run(const HeadRun& run, Result& result) override {
    RankingOptions wanted = options_;
    std::vector<std::int32_t> tokens;  // (L)
    const std::vector<NamedTensor> inputs = run.inputs();
    for (const NamedTensor& input : inputs) {
      if (input.name == "options") wanted.apply(bytes_of(input.tensor, "options"), "options", {"top_k"});
      if (input.name != "tokens") continue;
      const auto given = tokens_of(input.tensor);
      tokens.assign(given.begin(), given.end());
    }
    if (std::ranges::find(tokens, mask_) == tokens.end()) {
      fail(ErrorCode::invalid_argument, "the text has no place to fill in: write ", spelling_, " there");
    }
    const Result outputs = run.model->run_once(inputs);
    const Tensor logits = logits_of(outputs, static_cast<std::int64_t>(tokens.size()));
    plugin::JsonWriter fills;
    fills.open('[');
    std::int64_t masks = 0;
    for (std::size_t place = 0; place < tokens.size(); ++place) {
      if (tokens[place] != mask_) continue;
      const std::vector<float> scores = scores_at(logits, place);
      const std::vector<std::size_t> ids = plugin::best(scores, wanted.top_k);
      for (const std::size_t id : ids) {
        const auto token = static_cast<std::int32_t>(id);
        fills.open('{');
        fills.key("mask").number(masks);
        fills.key("index").number(token);
        fills.key("token").string(tokenizer_->decode({&token, 1}, false));
        fills.key("score").number(static_cast<double>(scores[id]));
        fills.close('}');
      }
      tokens[place] = static_cast<std::int32_t>(ids.front());
      ++masks;
    }
    fills.close(']');
    const std::string text = tokenizer_->decode(tokens, /*skip_special=*/true);
    plugin::JsonWriter json;
    json.open('{');
    json.key("text").string(text);
    json.key("fills").json(fills.text());
    json.close('}');
    result.add_text("text", text);
    result.add_text("json", json.take());
  }

 private:
  // f32 (1, L, V)
  static Tensor logits_of(const Result& outputs, std::int64_t length) {
    const OwnedTensor* found = outputs.find("logits");
    if (found == nullptr) fail(ErrorCode::unsupported, "the head fill_mask needs a model with the output logits");
    const Tensor& logits = found->view;
    if (logits.dtype != dtype::f32 || logits.ndim != 3 || logits.size(0) != 1 || logits.size(1) != length ||
        logits.size(2) < 1) {
      fail(ErrorCode::unsupported, "logits is ", dtype_name(logits.dtype), " ", logits.shape_text(),
           ", expected f32 (1, ", length, ", V)");
    }
    return logits;
  }

  // (V): probabilities of the tokens that the tokenizer has, but for the mask.
  [[nodiscard]] std::vector<float> scores_at(const Tensor& logits, std::size_t place) const {
    const auto width = static_cast<std::size_t>(logits.size(2));
    const std::size_t known = std::min(width, static_cast<std::size_t>(tokenizer_->vocab_size()));
    const float* row = logits.ptr<const float>() + place * width;
    std::vector<float> values(row, row + known);
    if (static_cast<std::size_t>(mask_) < known) values[static_cast<std::size_t>(mask_)] = -HUGE_VALF;
    return plugin::activated(values, "softmax");
  }

  RankingOptions options_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::string spelling_;
  std::int32_t mask_ = 0;
};

}  // namespace

ProcessorKind fill_mask_head() {
  return {Role::head,
          "fill_mask",
          "The likeliest tokens for the masks in the text of the slot `text`.",
          "mambasdk",
          {},
          [](std::string_view config, std::string_view) { return std::make_unique<FillMaskHead>(config); }};
}

}  // namespace mambasdk::runtime
