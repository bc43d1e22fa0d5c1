// Heads: what makes the answer to a task of a model. A head is handed the model and runs it as often as the task needs:
// once, per token, per tile, per frame.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/pipeline/processor.hpp"

namespace mambasdk::runtime {

// The model of a head, with a session of it that keeps state from run to run.
class HeadModel {
 public:
  // The session outlives this.
  HeadModel(const Model& model, Session& session);
  [[nodiscard]] const Model& model() const noexcept { return *model_; }
  [[nodiscard]] Session& session() const noexcept { return *session_; }
  // Every output of one run on those of `inputs` that are named as the model's own.
  // Error(invalid_argument) for an input that is missing.
  [[nodiscard]] Result run_once(std::span<const NamedTensor> inputs) const;

 private:
  std::shared_ptr<const Model> model_;
  Session* session_;
  std::vector<std::string> outputs_;
};

// One run of a head.
struct HeadRun {
  const Context& context;
  std::span<const NamedTensor> made;   // by the processors; and `options`, JSON text, where the run has any
  std::span<const NamedTensor> given;  // by the caller, named as inputs of the model
  const HeadModel* model = nullptr;    // null: the head is by itself
  // Takes text as it is written, whole UTF-8 characters; false stops. May be empty; what it throws leaves run().
  std::function<bool(std::string_view)> on_text{};

  [[nodiscard]] std::vector<NamedTensor> inputs() const;  // all of them
};

// One thread at a time. May keep state from run to run, which a run that throws must leave as it was; the session's is
// taken back by whoever called.
class Head {
 public:
  virtual ~Head() = default;
  // Once, before the first run with a model. Errors: what makes this model unfit for the head.
  virtual void attach(const HeadModel&) {}
  virtual void run(const HeadRun& run, Result& result) = 0;
  virtual void reset() {}
  // Whether it runs the model itself, rather than being handed the outputs of one run.
  [[nodiscard]] virtual bool drives_model() const noexcept { return true; }
  [[nodiscard]] virtual bool works_alone() const noexcept { return false; }  // also without a model
};

// The default: one run of the model, whose outputs go to `part` with all that the processors made.
[[nodiscard]] std::unique_ptr<Head> make_one_run_head(std::unique_ptr<Processor> part);

// A head by itself, as a processor. Error(unsupported) for one that does nothing without a model.
[[nodiscard]] std::unique_ptr<Processor> make_lone_head(std::string_view kind, std::unique_ptr<Head> head);
// The same with a model, whose session is taken back where a run throws; reset() is the session's too.
[[nodiscard]] std::unique_ptr<Processor> make_lone_head(std::unique_ptr<Head> head, const Model& model,
                                                        std::unique_ptr<Context> for_session);

}  // namespace mambasdk::runtime
