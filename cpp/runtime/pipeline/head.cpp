#include "runtime/pipeline/head.hpp"

#include <algorithm>

#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

HeadModel::HeadModel(const Model& model, Session& session) : model_(model.shared_from_this()), session_(&session) {
  for (const TensorSpec& spec : model.outputs()) outputs_.push_back(spec.name);
}

Result HeadModel::run_once(std::span<const NamedTensor> inputs) const {
  std::vector<NamedTensor> own;
  for (const TensorSpec& spec : model_->inputs()) {
    const auto found = std::find_if(inputs.begin(), inputs.end(), [&](auto& input) { return input.name == spec.name; });
    if (found == inputs.end()) {
      std::string names;
      for (const NamedTensor& input : inputs) names += (names.empty() ? "" : ", ") + printable(input.name);
      fail(ErrorCode::invalid_argument, "the model's input ", spec.name,
           " is missing: no processor made it and it was not given; there is ", names.empty() ? "nothing" : names);
    }
    own.push_back(*found);
  }
  const std::vector<std::string_view> names(outputs_.begin(), outputs_.end());
  std::vector<OwnedTensor> made = session_->run(own, names);
  Result result;
  for (std::size_t i = 0; i < made.size(); ++i) result.add(outputs_[i], std::move(made[i]));
  return result;
}

std::vector<NamedTensor> HeadRun::inputs() const {
  std::vector<NamedTensor> all(made.begin(), made.end());
  all.insert(all.end(), given.begin(), given.end());
  return all;
}

namespace {

class OneRunHead final : public Head {
 public:
  explicit OneRunHead(std::unique_ptr<Processor> part) : part_(std::move(part)) {}

  void run(const HeadRun& run, Result& result) override {
    if (run.model == nullptr) return part_->run(run.context, run.inputs(), result);
    const Result outputs = run.model->run_once(run.inputs());
    if (run.context.is_cancelled()) fail(ErrorCode::cancelled, "the pipeline was cancelled");
    std::vector<NamedTensor> all;
    for (const NamedOutput& output : outputs.items()) all.push_back({output.name, output.tensor.view});
    for (const NamedTensor& item : run.made) {
      if (outputs.find(item.name) != nullptr) {
        fail(ErrorCode::invalid_argument, "both a processor and the model made the tensor ", printable(item.name),
             "; rename one of them");
      }
      all.push_back(item);
    }
    part_->run(run.context, all, result);
  }
  void reset() override { part_->reset(); }
  bool drives_model() const noexcept override { return false; }
  bool works_alone() const noexcept override { return true; }

 private:
  std::unique_ptr<Processor> part_;
};

class LoneHead final : public Processor {
 public:
  explicit LoneHead(std::unique_ptr<Head> head) : head_(std::move(head)) {}
  LoneHead(std::unique_ptr<Head> head, const Model& model, std::unique_ptr<Context> for_session)
      : session_(model.new_session(std::move(for_session))), head_(std::move(head)) {
    model_ = std::make_unique<HeadModel>(model, *session_);
    head_->attach(*model_);
  }

  void run(const Context& context, std::span<const NamedTensor> inputs, Result& result) override {
    const HeadRun run{.context = context, .made = inputs, .given = {}, .model = model_.get()};
    if (session_ == nullptr) return head_->run(run, result);
    Rollback rollback(*session_);
    head_->run(run, result);
    rollback.keep();
  }
  void reset() override {
    if (session_ != nullptr) session_->reset();
    head_->reset();
  }

 private:
  std::unique_ptr<Session> session_;  // with model_; both null: by itself
  std::unique_ptr<HeadModel> model_;
  std::unique_ptr<Head> head_;  // goes first: it may look at the model to the end
};

}  // namespace

std::unique_ptr<Head> make_one_run_head(std::unique_ptr<Processor> part) {
  return std::make_unique<OneRunHead>(std::move(part));
}

std::unique_ptr<Processor> make_lone_head(std::string_view kind, std::unique_ptr<Head> head) {
  if (!head->works_alone()) {
    fail(ErrorCode::unsupported, "the head ", printable(kind),
         " runs the model itself: use a pipeline of a package with this head, or give it a model (head_create)");
  }
  return std::make_unique<LoneHead>(std::move(head));
}

std::unique_ptr<Processor> make_lone_head(std::unique_ptr<Head> head, const Model& model,
                                          std::unique_ptr<Context> for_session) {
  return std::make_unique<LoneHead>(std::move(head), model, std::move(for_session));
}

}  // namespace mambasdk::runtime
