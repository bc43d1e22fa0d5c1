// The order of steps of a pipeline: processors, then the head, which runs the model.
#include "runtime/pipeline/pipeline.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/package/json.hpp"
#include "runtime/pipeline/kinds.hpp"

namespace mambasdk::runtime {

namespace {

// In a processor's entry of the manifest: the slot that a run may give in place of this one.
constexpr const char* kAlternative = "alternative_to";

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

class ManifestPipeline final : public Pipeline {
 public:
  ManifestPipeline(const Model& model, std::unique_ptr<Context> for_session, std::unique_ptr<Context> for_processors,
                   const Create<Head>& head)
      : context_(std::move(for_processors)),
        session_(model.new_session(std::move(for_session))),
        model_(std::make_unique<HeadModel>(model, *session_)),
        model_inputs_(model.inputs()) {
    const Package& package = model.package();
    const Manifest& manifest = package.manifest();
    const std::string directory = std::filesystem::absolute(package.directory()).string();
    const std::string hint = plugin_hint(package);
    for (const auto& [slot, config] : manifest.processors_json) {
      const std::string where = concat(package.directory().string(), ": processors.", printable(slot));
      const JsonDocument entry = parse_json(config, where);
      const std::string kind = json_string_at(entry, "kind", where);
      const std::string other = entry->contains(kAlternative) ? json_string_at(entry, kAlternative, where) : "";
      slots_.push_back({slot, kind, other, create_processor(kind, config, directory, hint)});
    }
    if (head) {
      head_ = head(manifest.head_options_json, directory);
    } else if (!manifest.head.empty()) {
      head_ = create_head(manifest.head, manifest.head_options_json, directory, hint);
    }
    if (head_ != nullptr) head_->attach(*model_);
  }

  Result run(std::span<const NamedTensor> inputs, const PipelineOptions& options) override {
    check_inputs(inputs);
    Result processed;
    for (const Slot& slot : slots_) {
      check_cancelled();
      if (!is_given(slot, inputs)) continue;
      std::vector<NamedTensor> own;
      for (const NamedTensor& input : inputs) {
        if (belongs_to(input.name, slot.name)) own.push_back(input);
      }
      slot.processor->run(*context_, own, processed);
    }
    check_cancelled();
    std::vector<NamedTensor> made;
    for (const NamedOutput& item : processed.items()) made.push_back({item.name, item.tensor.view});
    if (head_ != nullptr && !options.json.empty()) {
      json_object(parse_json(options.json, "options"), "options");
      made.push_back({"options", text_view(options.json)});
    }
    const std::vector<NamedTensor> given = given_to_model(inputs, processed);
    const HeadRun run{
        .context = *context_, .made = made, .given = given, .model = model_.get(), .on_text = options.on_text};
    Rollback rollback(*session_);
    Result result;
    if (head_ == nullptr) {
      result = model_->run_once(run.inputs());
    } else {
      head_->run(run, result);
    }
    if (options.before_commit) options.before_commit(result);
    rollback.keep();
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
    std::string alternative_to;  // another slot, or none
    std::unique_ptr<Processor> processor;
  };

  [[nodiscard]] static bool is_given(const Slot& slot, std::span<const NamedTensor> inputs) {
    return std::any_of(inputs.begin(), inputs.end(), [&](auto& input) { return input.name == slot.name; });
  }
  // The slots of which a run gives one: a slot with those that it is an alternative to, or that are one to it.
  [[nodiscard]] static bool are_alternatives(const Slot& a, const Slot& b) {
    return a.alternative_to == b.name || b.alternative_to == a.name;
  }

  [[nodiscard]] bool is_model_input(std::string_view name) const {
    return std::any_of(model_inputs_.begin(), model_inputs_.end(), [&](const TensorSpec& s) { return s.name == name; });
  }

  [[nodiscard]] bool is_slot(std::string_view name) const {
    return std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) { return slot.name == name; });
  }

  // What a caller may give; a head that runs the model itself makes the model's inputs.
  [[nodiscard]] std::string wanted() const {
    const bool made_by_head = !slots_.empty() && head_ != nullptr && head_->drives_model();
    std::string out;
    for (const Slot& slot : slots_) out += concat(out.empty() ? "" : ", ", slot.name, " (", slot.kind, ")");
    if (made_by_head) return slots_.size() == 1 ? "one input, " + out : out;
    for (const TensorSpec& spec : model_inputs_) {
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
      bool given = is_given(slot, inputs);
      for (const Slot& other : slots_) {
        if (&other == &slot || !are_alternatives(slot, other) || !is_given(other, inputs)) continue;
        if (given) fail(ErrorCode::invalid_argument, "give one of the inputs ", slot.name, " and ", other.name);
        given = true;
      }
      if (!given) {
        fail(ErrorCode::invalid_argument, "input ", slot.name, " is missing: the processor ", slot.kind, " needs it");
      }
    }
  }

  // Inputs of the model that came from the caller, past every processor.
  [[nodiscard]] std::vector<NamedTensor> given_to_model(std::span<const NamedTensor> inputs,
                                                        const Result& processed) const {
    std::vector<NamedTensor> out;
    for (const NamedTensor& input : inputs) {
      if (is_slot(input.name) || !is_model_input(input.name)) continue;
      if (processed.find(input.name) != nullptr) {
        fail(ErrorCode::invalid_argument, "input ", input.name, " is made by a processor; do not give it too");
      }
      out.push_back(input);
    }
    return out;
  }

  void check_cancelled() const {
    if (context_->is_cancelled()) fail(ErrorCode::cancelled, "the pipeline was cancelled");
  }

  std::unique_ptr<Context> context_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<HeadModel> model_;
  std::vector<TensorSpec> model_inputs_;
  std::vector<Slot> slots_;
  std::unique_ptr<Head> head_;  // may be null: the model's outputs are the result
};

}  // namespace

std::unique_ptr<Pipeline> make_pipeline(const Model& model, std::unique_ptr<Context> for_session,
                                        std::unique_ptr<Context> for_processors, const Create<Head>& head) {
  return std::make_unique<ManifestPipeline>(model, std::move(for_session), std::move(for_processors), head);
}

}  // namespace mambasdk::runtime
