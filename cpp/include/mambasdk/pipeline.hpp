// Processors, pipelines and what the process holds: the C++20 face of the slots since ABI 1.1.
#ifndef MAMBASDK_PIPELINE_HPP_
#define MAMBASDK_PIPELINE_HPP_

#include "mambasdk/model.hpp"

namespace mambasdk {
inline namespace abi1 {

// Named tensors that a processor, a head or a pipeline made. Views of it live as long as it does.
class Result {
 public:
  explicit Result(mambasdk_result* made) : handle_(made) {}
  [[nodiscard]] std::string_view json() const { return to_cpp(api().result_json(handle_.get())); }  // "" without one
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(api().result_count(handle_.get())); }
  [[nodiscard]] TensorView operator[](std::size_t index) const {
    const mambasdk_tensor* tensor = api().result_tensor(handle_.get(), index);
    if (tensor == nullptr) {
      throw Error(MAMBASDK_ERROR_NOT_FOUND, "Result",
                  "there is no tensor " + std::to_string(index) + " of " + std::to_string(size()));
    }
    return {to_cpp(api().result_name(handle_.get(), index)), *tensor};
  }
  // Throws Error with the names that there are.
  [[nodiscard]] TensorView operator[](std::string_view name) const {
    std::string names;
    for (std::size_t i = 0; i < size(); ++i) {
      const TensorView tensor = (*this)[i];
      if (tensor.name() == name) return tensor;
      names += (names.empty() ? "" : ", ") + std::string(tensor.name());
    }
    throw Error(MAMBASDK_ERROR_NOT_FOUND, "Result",
                "there is no tensor " + std::string(name) + "; there is: " + (names.empty() ? "nothing" : names));
  }
  [[nodiscard]] mambasdk_result* get() const { return handle_.get(); }

 private:
  detail::Handle<mambasdk_result, &mambasdk_api::result_release> handle_;
};

enum class Role : std::int32_t { processor = MAMBASDK_PROCESSOR, head = MAMBASDK_HEAD };

// One processor or head by itself. One thread at a time.
class Processor {
 public:
  // config: a JSON object; directory: a package, or "" outside one.
  explicit Processor(std::string_view kind, std::string_view config = "{}", std::string_view directory = {},
                     Role role = Role::processor) {
    mambasdk_processor* made = nullptr;
    check(api().processor_create(static_cast<std::int32_t>(role), to_c(kind), to_c(config), to_c(directory), &made));
    handle_.reset(made);
  }
  explicit Processor(mambasdk_processor* made) : handle_(made) {}  // owns it
  // A head with a model, which it runs as often as it likes: takes what the package's processors would make. The
  // model's state is the session's of this head, in `context`; reset() is that state too.
  [[nodiscard]] static Processor head_of(const Model& model, std::string_view kind, std::string_view config = "{}",
                                         const mambasdk_context* context = nullptr) {
    mambasdk_processor* made = nullptr;
    check(api().head_create(model.get(), context, to_c(kind), to_c(config), &made));
    return Processor(made);
  }
  [[nodiscard]] Result run(std::initializer_list<Named> inputs, const mambasdk_context* context = nullptr) {
    return run(std::span<const Named>(inputs.begin(), inputs.size()), context);
  }
  [[nodiscard]] Result run(std::span<const Named> inputs, const mambasdk_context* context = nullptr) {
    const detail::NamedInputs named(inputs);
    mambasdk_result* made = nullptr;
    check(api().processor_run(handle_.get(), context, named.data(), named.size(), &made));
    return Result(made);
  }
  void reset() { check(api().processor_reset(handle_.get())); }
  [[nodiscard]] mambasdk_processor* get() const { return handle_.get(); }

 private:
  detail::Handle<mambasdk_processor, &mambasdk_api::processor_release> handle_;
};

struct PipelineOptions {
  std::string json{};                               // an object of the head's options for this run
  std::function<bool(std::string_view)> on_text{};  // whole UTF-8 characters; false stops
};

// Processors, model and head of a package: raw inputs in, a result out. State carries over from run to run; the model's
// is as it was where a run throws. One thread at a time.
class Pipeline {
 public:
  explicit Pipeline(const Model& model, const mambasdk_context* context = nullptr) {
    mambasdk_pipeline* made = nullptr;
    check(api().pipeline_create(model.get(), context, &made));
    handle_.reset(made);
  }
  explicit Pipeline(mambasdk_pipeline* made) : handle_(made) {}  // owns it
  // Inputs by the names of the manifest's processors; TensorRef::bytes() for text and for the bytes of a file.
  [[nodiscard]] Result run(std::initializer_list<Named> inputs, const PipelineOptions& options = {}) {
    return run(std::span<const Named>(inputs.begin(), inputs.size()), options);
  }
  [[nodiscard]] Result run(std::span<const Named> inputs, const PipelineOptions& options = {}) {
    const detail::NamedInputs named(inputs);
    detail::TextRelay relay{options.on_text};
    const mambasdk_pipeline_options c{sizeof(c), to_c(options.json), relay.function(), &relay};
    mambasdk_result* made = nullptr;
    mambasdk_status* status = api().pipeline_run(handle_.get(), named.data(), named.size(), &c, &made);
    relay.rethrow(status);
    check(status);
    return Result(made);
  }
  void reset() { check(api().pipeline_reset(handle_.get())); }
  [[nodiscard]] mambasdk_pipeline* get() const { return handle_.get(); }

 private:
  detail::Handle<mambasdk_pipeline, &mambasdk_api::pipeline_release> handle_;
};

// Loads a native plugin by absolute path and returns what it brought (JSON).
inline std::string load_plugin(std::string_view absolute_path) {
  mambasdk_string description{};
  check(api().plugin_load(to_c(absolute_path), &description));
  return std::string(to_cpp(description));
}

// What is in this process: plugins, engines, processors, heads, components (JSON).
[[nodiscard]] inline std::string describe_runtime() {
  return std::string(to_cpp(api().runtime_describe()));
}

// Says what this host brings, before plugins load: declare_component("torch", "2.13.0").
inline void declare_component(std::string_view name, std::string_view version) {
  check(api().component_declare(to_c(name), to_c(version)));
}

}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_PIPELINE_HPP_
