// The model of a head, which runs it as often as its task needs. Included by mambasdk/plugin.hpp.
//
//   void Denoise::run(Model& model, const Inputs& inputs, Emitter& emit) {
//     Tensor x = …;
//     for (int step = 0; step < 50; ++step) x = std::move(model.run({{"x", …}}, {"y"})[0]);
//     emit("image", std::move(x));
//   }
#ifndef MAMBASDK_PLUGIN_HEAD_HPP_
#define MAMBASDK_PLUGIN_HEAD_HPP_

#if !defined(MAMBASDK_PLUGIN)
#error "include mambasdk/plugin.hpp, which includes this"
#endif

#include "mambasdk/plugin/values.hpp"

namespace mambasdk {
inline namespace abi1 {
namespace plugin {

// What one run of a model made, and what the head was given: the outputs come first.
class Outputs {
 public:
  Outputs(std::span<const mambasdk_tensor_spec> specs, std::vector<Tensor> tensors, const Inputs& given)
      : tensors_(std::move(tensors)), context_(&given.context()) {
    for (std::size_t i = 0; i < tensors_.size(); ++i) all_.push_back({specs[i].name, &tensors_[i].get()->tensor});
    all_.insert(all_.end(), given.get().begin(), given.get().end());
  }
  // Valid as long as this and what was given.
  [[nodiscard]] Inputs inputs() const { return {all_.data(), all_.size(), *context_}; }

 private:
  std::vector<Tensor> tensors_;
  std::vector<mambasdk_named_tensor> all_;
  const mambasdk_context* context_;
};

// One thread at a time. The state of its session carries over from run to run and from call to call of the head; where
// the head throws, the pipeline takes it back to where it was before the call. Valid as long as the head.
class Model {
 public:
  explicit Model(const mambasdk_head_model& model) : model_(&model) {}

  // Names, dtypes and shapes (-1: an extent that may change from run to run).
  [[nodiscard]] std::span<const mambasdk_tensor_spec> inputs() const {
    return {model_->inputs, static_cast<std::size_t>(model_->input_count)};
  }
  [[nodiscard]] std::span<const mambasdk_tensor_spec> outputs() const {
    return {model_->outputs, static_cast<std::size_t>(model_->output_count)};
  }
  [[nodiscard]] std::string_view description() const { return to_cpp(api().model_describe(model_->model)); }  // JSON

  // Named inputs in, named outputs out, in the order asked for. Throws Error; the state then is as it was.
  [[nodiscard]] std::vector<Tensor> run(std::initializer_list<Named> inputs,
                                        std::initializer_list<std::string_view> outputs) {
    return run(std::span(inputs.begin(), inputs.size()), std::span(outputs.begin(), outputs.size()));
  }
  [[nodiscard]] std::vector<Tensor> run(std::span<const Named> inputs, std::span<const std::string_view> outputs) {
    const abi1::detail::NamedInputs named(inputs);
    return abi1::detail::run_session(model_->session, named.data(), named.size(), outputs);
  }
  // Every output of one run on those inputs that are named as the model's own: what a head of one run is given.
  [[nodiscard]] Outputs run_once(const Inputs& given) {
    std::vector<mambasdk_named_tensor> own;
    for (const mambasdk_tensor_spec& spec : inputs()) own.push_back({spec.name, &given[to_cpp(spec.name)].get()});
    std::vector<std::string_view> names;
    for (const mambasdk_tensor_spec& spec : outputs()) names.push_back(to_cpp(spec.name));
    return {outputs(), abi1::detail::run_session(model_->session, own.data(), own.size(), names), given};
  }

  void reset() { check(api().session_reset(model_->session)); }
  [[nodiscard]] std::vector<std::byte> save() const { return abi1::detail::save_session(model_->session); }
  void restore(std::span<const std::byte> state) {
    check(api().session_restore(model_->session, state.data(), state.size()));
  }
  [[nodiscard]] const mambasdk_head_model& get() const { return *model_; }

 private:
  const mambasdk_head_model* model_;
};

template <class T>
concept RunsAlone = requires(T& t, const Inputs& inputs, Emitter& emit) { t.run(inputs, emit); };
template <class T>
concept DrivesModel = requires(T& t, Model& model, const Inputs& inputs, Emitter& emit) { t.run(model, inputs, emit); };

}  // namespace plugin
}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_PLUGIN_HEAD_HPP_
