// Pipelines of tensors: processors run, then the model once, then the head.
#include "runtime/pipeline/pipeline.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

namespace {

std::string plugin_hint(const Package& package) {
  std::string plugins;
  for (const PluginRequirement& plugin : package.manifest().requires_plugins) {
    plugins += (plugins.empty() ? "" : ", ") + plugin.name;
  }
  if (plugins.empty()) return "load the plugin that brings it";
  return "the package requires these plugins, load the one that brings it: " + printable(plugins);
}

// `image` and `image.orientation` belong to slot `image`.
bool belongs_to(std::string_view name, std::string_view slot) {
  return name == slot || (name.size() > slot.size() && name.starts_with(slot) && name[slot.size()] == '.');
}

class TensorPipeline final : public Pipeline {
 public:
  TensorPipeline(const Model& model, std::unique_ptr<Context> for_session, std::unique_ptr<Context> for_processors)
      : context_(std::move(for_processors)), model_(model.shared_from_this()) {
    const Package& package = model.package();
    const Manifest& manifest = package.manifest();
    const std::string directory = std::filesystem::absolute(package.directory()).string();
    const std::string hint = plugin_hint(package);
    for (const auto& [slot, config] : manifest.processors_json) {
      const std::string where = concat(package.directory().string(), ": processors.", printable(slot));
      const std::string kind = json_string_at(parse_json(config, where), "kind", where);
      slots_.push_back({slot, kind, create_processor(Role::processor, kind, config, directory, hint)});
    }
    if (!manifest.head.empty()) {
      head_ = create_processor(Role::head, manifest.head, manifest.head_options_json, directory, hint);
    }
    for (const TensorSpec& spec : model.outputs()) output_names_.push_back(spec.name);
    session_ = model.new_session(std::move(for_session));
  }

  Result run(std::span<const NamedTensor> inputs, const PipelineOptions& options) override {
    check_inputs(inputs);
    Result processed;
    for (const Slot& slot : slots_) {
      check_cancelled();
      std::vector<NamedTensor> own;
      for (const NamedTensor& input : inputs) {
        if (belongs_to(input.name, slot.name)) own.push_back(input);
      }
      slot.processor->run(*context_, own, processed);
    }
    check_cancelled();
    const std::vector<std::string_view> names(output_names_.begin(), output_names_.end());
    std::vector<OwnedTensor> made = session_->run(model_inputs(inputs, processed), names);
    Result outputs;
    for (std::size_t i = 0; i < made.size(); ++i) outputs.add(output_names_[i], std::move(made[i]));
    if (head_ == nullptr) return outputs;

    check_cancelled();
    std::vector<NamedTensor> for_head;
    for (const NamedOutput& output : outputs.items()) for_head.push_back({output.name, output.tensor.view});
    for (const NamedOutput& item : processed.items()) {
      if (outputs.find(item.name) != nullptr) {
        fail(ErrorCode::invalid_argument, "both a processor and the model made the tensor ", printable(item.name),
             "; rename one of them");
      }
      for_head.push_back({item.name, item.tensor.view});
    }
    if (!options.json.empty()) {
      json_object(parse_json(options.json, "options"), "options");
      for_head.push_back({"options", text_view(options.json)});
    }
    Result result;
    head_->run(*context_, for_head, result);
    return result;
  }

  void reset() override {
    session_->reset();
    for (const Slot& slot : slots_) slot.processor->reset();
    if (head_ != nullptr) head_->reset();
  }

 private:
  struct Slot {
    std::string name;
    std::string kind;
    std::unique_ptr<Processor> processor;
  };

  [[nodiscard]] bool is_model_input(std::string_view name) const {
    const auto& listed = model_->package().manifest().inputs;
    return std::any_of(listed.begin(), listed.end(), [&](const TensorSpec& s) { return s.name == name; });
  }

  [[nodiscard]] std::string wanted() const {
    std::string out;
    for (const Slot& slot : slots_) out += concat(out.empty() ? "" : ", ", slot.name, " (", slot.kind, ")");
    for (const TensorSpec& spec : model_->package().manifest().inputs) {
      out += concat(out.empty() ? "" : ", ", spec.name, " (", spec.dtype, ")");
    }
    return out;
  }

  void check_inputs(std::span<const NamedTensor> inputs) const {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::string_view name = inputs[i].name;
      const bool known = is_model_input(name) || std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
                           return belongs_to(name, slot.name);
                         });
      if (!known) {
        fail(ErrorCode::invalid_argument, "the pipeline has no input ", printable(name), "; it takes ", wanted());
      }
      for (std::size_t j = 0; j < i; ++j) {
        if (inputs[j].name == name) fail(ErrorCode::invalid_argument, "input ", printable(name), " is given twice");
      }
    }
    for (const Slot& slot : slots_) {
      const bool given =
          std::any_of(inputs.begin(), inputs.end(), [&](auto& input) { return input.name == slot.name; });
      if (!given) {
        fail(ErrorCode::invalid_argument, "input ", slot.name, " is missing: the processor ", slot.kind, " needs it");
      }
    }
  }

  // By name: what the processors made, else what the caller gave.
  [[nodiscard]] std::vector<NamedTensor> model_inputs(std::span<const NamedTensor> inputs,
                                                      const Result& processed) const {
    std::vector<NamedTensor> out;
    for (const TensorSpec& spec : model_->package().manifest().inputs) {
      const auto given =
          std::find_if(inputs.begin(), inputs.end(), [&](auto& input) { return input.name == spec.name; });
      const bool is_slot =
          std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) { return slot.name == spec.name; });
      if (const OwnedTensor* made = processed.find(spec.name)) {
        if (given != inputs.end() && !is_slot) {
          fail(ErrorCode::invalid_argument, "input ", spec.name, " is made by a processor; do not give it too");
        }
        out.push_back({spec.name, made->view});
      } else if (given != inputs.end() && !is_slot) {
        out.push_back({spec.name, given->tensor});
      } else {
        std::string made_names;
        for (const NamedOutput& item : processed.items()) {
          made_names += (made_names.empty() ? "" : ", ") + printable(item.name);
        }
        fail(ErrorCode::invalid_argument, "the model's input ", spec.name, " is missing: the processors made ",
             made_names.empty() ? "nothing" : made_names, " and it was not given");
      }
    }
    return out;
  }

  void check_cancelled() const {
    if (context_->is_cancelled()) fail(ErrorCode::cancelled, "the pipeline was cancelled");
  }

  std::unique_ptr<Context> context_;
  std::shared_ptr<const Model> model_;
  std::vector<std::string> output_names_;
  std::vector<Slot> slots_;
  std::unique_ptr<Processor> head_;  // may be null: the model's outputs are the result
  std::unique_ptr<Session> session_;
};

}  // namespace

std::unique_ptr<Pipeline> make_pipeline(const Model& model, std::unique_ptr<Context> for_session,
                                        std::unique_ptr<Context> for_processors) {
  const Manifest& manifest = model.package().manifest();
  const bool own_text = manifest.text && (manifest.text->kind == "bytes" || manifest.text->kind == "tokenizer");
  if (manifest.head == "causal_lm" && own_text && manifest.processors_json.size() == 1) {
    return make_text_pipeline(model, std::move(for_session));
  }
  return std::make_unique<TensorPipeline>(model, std::move(for_session), std::move(for_processors));
}

}  // namespace mambasdk::runtime
