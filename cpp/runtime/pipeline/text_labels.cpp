#include "runtime/pipeline/text_labels.hpp"

#include <algorithm>
#include <numeric>

#include "mambasdk/plugin/ranking.hpp"
#include "runtime/pipeline/ranked.hpp"

namespace mambasdk::runtime {

namespace {

class TextLabels final : public Processor {
 public:
  TextLabels(std::string_view config, bool ranked) : ranked_(ranked) {
    if (ranked) {
      options_.apply(config, "head_options", {"labels", "activation", "top_k"});
    } else {
      options_.activation = "none";
      options_.apply(config, "head_options", {"labels"});
    }
  }

  void run(const Context&, std::span<const NamedTensor> inputs, Result& result) override {
    RankingOptions wanted = options_;
    const Tensor* found = nullptr;
    const std::string_view name = ranked_ ? "logits" : "values";
    for (const NamedTensor& input : inputs) {
      if (input.name == name) found = &input.tensor;
      if (input.name != "options") continue;
      const std::string_view options = bytes_of(input.tensor, "options");
      ranked_ ? wanted.apply(options, "options", {"top_k"}) : wanted.apply(options, "options", {});
    }
    if (found == nullptr) fail(ErrorCode::invalid_argument, "the tensor ", name, " is missing");
    const std::vector<float> scores = plugin::activated(numbers(*found, name), wanted.activation);  // (C)
    std::vector<std::size_t> places(scores.size());
    std::iota(places.begin(), places.end(), std::size_t{0});
    if (ranked_) places = plugin::best(scores, wanted.top_k);
    plugin::JsonWriter json;
    json.open('{').key(ranked_ ? "labels" : "values");
    plugin::write_labels(json, scores, places, options_.labels);
    json.close('}');
    const std::int64_t shape[] = {static_cast<std::int64_t>(scores.size())};
    OwnedTensor all = OwnedTensor::allocate(dtype::f32, shape, 1);  // (C)
    std::copy(scores.begin(), scores.end(), all.view.ptr<float>());
    result.add_text("json", json.take());
    result.add("scores", std::move(all));
  }

 private:
  // (C)
  [[nodiscard]] std::span<const float> numbers(const Tensor& tensor, std::string_view name) const {
    const bool row = tensor.ndim == 1 || (tensor.ndim == 2 && tensor.size(0) == 1);
    if (tensor.dtype != dtype::f32 || !row || tensor.numel() == 0 || !tensor.is_contiguous() ||
        tensor.device != Device::cpu) {
      fail(ErrorCode::invalid_argument, name, " is ", dtype_name(tensor.dtype), " ", tensor.shape_text(),
           ", expected f32 (C) or (1, C) on the CPU");
    }
    const auto count = static_cast<std::size_t>(tensor.numel());
    if (!options_.labels.empty() && options_.labels.size() != count) {
      fail(ErrorCode::invalid_argument, "head_options: ", options_.labels.size(), " labels for ", count,
           " outputs; give one for each");
    }
    return {tensor.ptr<const float>(), count};
  }

  RankingOptions options_;
  bool ranked_;
};

Create<Head> maker(bool ranked) {
  return [ranked](std::string_view config, std::string_view) {
    return make_one_run_head(std::make_unique<TextLabels>(config, ranked));
  };
}

}  // namespace

ProcessorKind text_classification_head() {
  return {Role::head, "text_classification", "Logits of a text to its best labels.", "mambasdk", {}, maker(true)};
}

ProcessorKind text_regression_head() {
  return {Role::head, "text_regression", "Numbers that a model says of a text.", "mambasdk", {}, maker(false)};
}

}  // namespace mambasdk::runtime
