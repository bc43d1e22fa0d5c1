// What a package's manifest says from end to end: processors, model, head. One thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "runtime/pipeline/kind.hpp"

namespace mambasdk::runtime {

struct PipelineOptions {
  std::string_view json;                          // an object of the head's options for this run; empty for none
  std::function<bool(std::string_view)> on_text;  // text as it is written, whole UTF-8 characters; false stops
  // Called with the result while the run can still be taken back: what it throws leaves run().
  std::function<void(const Result&)> before_commit{};
};

class Pipeline {
 public:
  virtual ~Pipeline() = default;
  // Raw inputs by the names of the manifest's slots. States carry over to the next run. If this throws, the model's is
  // as it was, and so is that of the part which threw; what parts before it did is not taken back.
  [[nodiscard]] virtual Result run(std::span<const NamedTensor> inputs, const PipelineOptions& options) = 0;
  virtual void reset() = 0;
};

// Two contexts: the session owns one, the processors and the head run in the other. head: in place of the manifest's;
// null: that one. Errors: not_found for a kind that is not here, naming the plugins that the package requires; those of
// the head's attach.
[[nodiscard]] std::unique_ptr<Pipeline> make_pipeline(const Model& model, std::unique_ptr<Context> for_session,
                                                      std::unique_ptr<Context> for_processors,
                                                      const Create<Head>& head = {});

}  // namespace mambasdk::runtime
