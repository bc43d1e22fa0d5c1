#include "abi/pipelines.hpp"

#include "abi/convert.hpp"
#include "abi/heads.hpp"
#include "abi/models.hpp"

namespace mambasdk::abi {

namespace {

std::string_view options_of(mambasdk_string config) {
  const std::string_view given = checked_text(config, "config");
  return given.empty() ? "{}" : given;
}

void fill_views(mambasdk_result& out) {
  for (const runtime::NamedOutput& item : out.result.items()) out.tensors.push_back(to_abi(item.tensor.view));
}

void make_pipeline(const mambasdk_model* model, const mambasdk_context* context,
                   const runtime::Create<runtime::Head>& head, mambasdk_pipeline** pipeline) {
  require(model, "model");
  require(pipeline, "pipeline");
  auto made = std::make_unique<mambasdk_pipeline>();
  made->pipeline = runtime::make_pipeline(*model->model, std::make_unique<HostContext>(context),
                                          std::make_unique<HostContext>(context), head);
  *pipeline = made.release();
}

}  // namespace

mambasdk_status* processor_create(std::int32_t role, mambasdk_string kind, mambasdk_string config,
                                  mambasdk_string directory, mambasdk_processor** processor) {
  return guard("processor_create", [&] {
    require(processor, "processor");
    const std::string_view options = options_of(config);
    const std::string_view name = checked_text(kind, "kind");
    const std::string_view path = checked_path(directory, "directory");
    auto made = std::make_unique<mambasdk_processor>();
    made->processor = role_of(role) == runtime::Role::processor
                          ? runtime::create_processor(name, options, path)
                          : runtime::make_lone_head(name, runtime::create_head(name, options, path));
    *processor = made.release();
  });
}

mambasdk_status* head_create(const mambasdk_model* model, const mambasdk_context* context, mambasdk_string kind,
                             mambasdk_string config, mambasdk_processor** head) {
  return guard("head_create", [&] {
    require(model, "model");
    require(head, "head");
    const std::string directory = std::filesystem::absolute(model->model->package().directory()).string();
    auto made = std::make_unique<mambasdk_processor>();
    made->processor =
        runtime::make_lone_head(runtime::create_head(checked_text(kind, "kind"), options_of(config), directory),
                                *model->model, std::make_unique<HostContext>(context));
    *head = made.release();
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
    const InUse use(processor->in_use, "processor");
    const HostContext host(context);
    if (host.is_cancelled()) fail(ErrorCode::cancelled, "cancelled");
    const auto named = named_from_abi(inputs, input_count);
    runtime::Result made;
    processor->processor->run(host, named, made);
    auto out = std::make_unique<mambasdk_result>();
    out->result = std::move(made);
    fill_views(*out);
    *result = out.release();
  });
}

mambasdk_status* processor_reset(mambasdk_processor* processor) {
  return guard("processor_reset", [&] {
    require(processor, "processor");
    const InUse use(processor->in_use, "processor");
    processor->processor->reset();
  });
}

mambasdk_status* pipeline_create(const mambasdk_model* model, const mambasdk_context* context,
                                 mambasdk_pipeline** pipeline) {
  return guard("pipeline_create", [&] { make_pipeline(model, context, {}, pipeline); });
}

mambasdk_status* pipeline_create_with(const mambasdk_model* model, const mambasdk_context* context,
                                      const mambasdk_processor_definition* head, mambasdk_pipeline** pipeline) {
  return guard("pipeline_create_with", [&] {
    make_pipeline(model, context, wrap_processor(MAMBASDK_HEAD, head, "host").create_head, pipeline);
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
      given = read_options(options, sizeof(mambasdk_pipeline_options), "pipeline_options");
      wanted.json = checked_text(given.json, "pipeline_options.json");
      if (given.on_text != nullptr) {
        wanted.on_text = [&given](std::string_view text) { return shown(given.on_text(given.user, view(text))); };
      }
    }
    const InUse use(pipeline->in_use, "pipeline");
    const auto named = named_from_abi(inputs, input_count);
    // Everything that can fail comes before the pipeline's state is committed.
    auto out = std::make_unique<mambasdk_result>();
    wanted.before_commit = [&](const runtime::Result& made) { out->tensors.reserve(made.items().size()); };
    out->result = pipeline->pipeline->run(named, wanted);
    fill_views(*out);
    *result = out.release();
  });
}

mambasdk_status* pipeline_reset(mambasdk_pipeline* pipeline) {
  return guard("pipeline_reset", [&] {
    require(pipeline, "pipeline");
    const InUse use(pipeline->in_use, "pipeline");
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
