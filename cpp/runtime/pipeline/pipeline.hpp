// What a package's manifest says from end to end: processors, model, head. One thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "runtime/pipeline/processor.hpp"

namespace mambasdk::runtime {

struct PipelineOptions {
  std::string_view json;                          // an object of the head's options for this run; empty for none
  std::function<bool(std::string_view)> on_text;  // text as it is written, whole UTF-8 characters; false stops
};

class Pipeline {
 public:
  virtual ~Pipeline() = default;
  // Raw inputs by the names of the manifest's slots. States carry over to the next run.
  [[nodiscard]] virtual Result run(std::span<const NamedTensor> inputs, const PipelineOptions& options) = 0;
  virtual void reset() = 0;
};

// Two contexts: the session owns one, the processors and the head run in the other.
// Errors: not_found for a kind that is not here, naming the plugins that the package requires.
[[nodiscard]] std::unique_ptr<Pipeline> make_pipeline(const Model& model, std::unique_ptr<Context> for_session,
                                                      std::unique_ptr<Context> for_processors);

// The head causal_lm on a text processor (causal_lm.cpp).
[[nodiscard]] std::unique_ptr<Pipeline> make_text_pipeline(const Model& model, std::unique_ptr<Context> context);

}  // namespace mambasdk::runtime
