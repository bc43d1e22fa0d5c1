#include "abi/pipelines.hpp"

#include "abi/convert.hpp"
#include "abi/models.hpp"

namespace mambasdk::abi {

namespace {

template <class T>
void require(const T* pointer, const char* name) {
  if (pointer == nullptr) fail(ErrorCode::invalid_argument, name, " is NULL");
}

runtime::Role role_of(std::int32_t role) {
  if (role == MAMBASDK_PROCESSOR) return runtime::Role::processor;
  if (role == MAMBASDK_HEAD) return runtime::Role::head;
  fail(ErrorCode::invalid_argument, "role is ", role, ", expected 0 (processor) or 1 (head)");
}

// What a plugin's instance may emit to, for the time of one run.
struct Emitter {
  runtime::Result& result;
  std::string_view kind;
};

mambasdk_status* emit(void* user, mambasdk_string name, mambasdk_managed_tensor* tensor) {
  auto& emitter = *static_cast<Emitter*>(user);
  return guard(emitter.kind, [&] {
    // The tensor is taken first: it is ours also when the name is refused.
    runtime::OwnedTensor owned = take_tensor(tensor, "an emitted tensor");
    emitter.result.add(std::string(checked_text(name, "an emitted tensor's name")), std::move(owned));
  });
}

class PluginProcessor final : public runtime::Processor {
 public:
  PluginProcessor(const mambasdk_processor_definition& definition, std::string kind, std::string_view config,
                  std::string_view directory)
      : definition_(definition), kind_(std::move(kind)) {
    if (const auto* status = definition_.create(definition_.self, view(config), view(directory), &instance_)) {
      throw_status(status);
    }
  }
  ~PluginProcessor() override { definition_.release(definition_.self, instance_); }
  PluginProcessor(const PluginProcessor&) = delete;
  PluginProcessor& operator=(const PluginProcessor&) = delete;

  void run(const Context& context, std::span<const runtime::NamedTensor> inputs, runtime::Result& result) override {
    const NamedToAbi given(inputs);
    const mambasdk_context c = to_abi(context, context.device());
    Emitter emitter{result, kind_};
    if (const auto* status =
            definition_.run(definition_.self, instance_, &c, given.data(), given.size(), emit, &emitter)) {
      throw_status(status);
    }
  }

  void reset() override {
    if (definition_.reset == nullptr) return;
    if (const auto* status = definition_.reset(definition_.self, instance_)) throw_status(status);
  }

 private:
  mambasdk_processor_definition definition_;
  std::string kind_;
  void* instance_ = nullptr;
};

mambasdk_result* hand_out(runtime::Result made) {
  auto out = std::make_unique<mambasdk_result>();
  out->result = std::move(made);
  for (const runtime::NamedOutput& item : out->result.items()) out->tensors.push_back(to_abi(item.tensor.view));
  return out.release();
}

}  // namespace

runtime::ProcessorKind wrap_processor(std::int32_t role, const mambasdk_processor_definition* definition,
                                      std::string_view origin) {
  // All members came with ABI 1.1.
  const auto d = read_struct(definition, sizeof(mambasdk_processor_definition), "processor definition");
  runtime::ProcessorKind kind{role_of(role),
                              std::string(checked_text(d.kind, "the kind")),
                              std::string(checked_text(d.doc, "the doc")),
                              std::string(origin),
                              {}};
  if (kind.kind.empty()) fail(ErrorCode::invalid_argument, "a processor must have a kind");
  if (d.create == nullptr || d.release == nullptr || d.run == nullptr) {
    fail(ErrorCode::invalid_argument, runtime::role_name(kind.role), " ", kind.kind,
         " lacks one of create, release, run");
  }
  kind.create = [d, name = kind.kind](std::string_view config, std::string_view directory) {
    return std::make_unique<PluginProcessor>(d, name, config, directory);
  };
  return kind;
}

mambasdk_status* processor_create(std::int32_t role, mambasdk_string kind, mambasdk_string config,
                                  mambasdk_string directory, mambasdk_processor** processor) {
  return guard("processor_create", [&] {
    require(processor, "processor");
    const std::string_view given = checked_text(config, "config");
    auto made = std::make_unique<mambasdk_processor>();
    made->processor = runtime::create_processor(role_of(role), checked_text(kind, "kind"), given.empty() ? "{}" : given,
                                                checked_text(directory, "directory"));
    *processor = made.release();
  });
}

void processor_release(mambasdk_processor* processor) {
  delete processor;
}

mambasdk_status* processor_run(mambasdk_processor* processor, const mambasdk_context* context,
                               const mambasdk_named_tensor* inputs, std::uint64_t input_count,
                               mambasdk_result** result) {
  return guard("processor_run", [&] {
    require(processor, "processor");
    require(result, "result");
    const HostContext host(context);
    if (host.is_cancelled()) fail(ErrorCode::cancelled, "cancelled");
    const auto named = named_from_abi(inputs, input_count);
    runtime::Result made;
    processor->processor->run(host, named, made);
    *result = hand_out(std::move(made));
  });
}

mambasdk_status* processor_reset(mambasdk_processor* processor) {
  return guard("processor_reset", [&] {
    require(processor, "processor");
    processor->processor->reset();
  });
}

mambasdk_status* pipeline_create(const mambasdk_model* model, const mambasdk_context* context,
                                 mambasdk_pipeline** pipeline) {
  return guard("pipeline_create", [&] {
    require(model, "model");
    require(pipeline, "pipeline");
    auto made = std::make_unique<mambasdk_pipeline>();
    made->pipeline = runtime::make_pipeline(*model->model, std::make_unique<HostContext>(context),
                                            std::make_unique<HostContext>(context));
    *pipeline = made.release();
  });
}

void pipeline_release(mambasdk_pipeline* pipeline) {
  delete pipeline;
}

mambasdk_status* pipeline_run(mambasdk_pipeline* pipeline, const mambasdk_named_tensor* inputs,
                              std::uint64_t input_count, const mambasdk_pipeline_options* options,
                              mambasdk_result** result) {
  return guard("pipeline_run", [&] {
    require(pipeline, "pipeline");
    require(result, "result");
    runtime::PipelineOptions wanted;
    mambasdk_pipeline_options given{};
    if (options != nullptr) {
      given = read_struct(options, sizeof(mambasdk_pipeline_options), "pipeline_options");
      wanted.json = checked_text(given.json, "pipeline_options.json");
      if (given.on_text != nullptr) {
        wanted.on_text = [&given](std::string_view text) { return given.on_text(given.user, view(text)) == 0; };
      }
    }
    const auto named = named_from_abi(inputs, input_count);
    *result = hand_out(pipeline->pipeline->run(named, wanted));
  });
}

mambasdk_status* pipeline_reset(mambasdk_pipeline* pipeline) {
  return guard("pipeline_reset", [&] {
    require(pipeline, "pipeline");
    pipeline->pipeline->reset();
  });
}

mambasdk_string result_json(const mambasdk_result* result) {
  return result == nullptr ? mambasdk_string{"", 0} : view(result->result.json());
}

std::uint64_t result_count(const mambasdk_result* result) {
  return result == nullptr ? 0 : result->tensors.size();
}

mambasdk_string result_name(const mambasdk_result* result, std::uint64_t index) {
  if (index >= result_count(result)) return {"", 0};
  return view(std::string_view(result->result.items()[static_cast<std::size_t>(index)].name));
}

const mambasdk_tensor* result_tensor(const mambasdk_result* result, std::uint64_t index) {
  return index >= result_count(result) ? nullptr : &result->tensors[static_cast<std::size_t>(index)];
}

void result_release(mambasdk_result* result) {
  delete result;
}

}  // namespace mambasdk::abi
