#include "abi/models.hpp"

#include <cstddef>
#include <cstring>

#include "abi/bundled_engine.hpp"
#include "abi/convert.hpp"
#include "abi/engines.hpp"
#include "mambasdk/plugin/json.hpp"
#include "runtime/engine/engines.hpp"

namespace mambasdk::abi {

namespace {

template <class Specs>
void add_specs(plugin::JsonWriter& w, std::string_view key, const Specs& specs) {
  w.key(key);
  w.open('[');
  for (const auto& spec : specs) {
    w.open('{');
    w.key("name").string(spec.name);
    if constexpr (requires { spec.dtype.bits; }) {
      w.key("dtype").string(dtype_name(spec.dtype));
    } else {
      w.key("dtype").string(spec.dtype);
    }
    w.key("shape");
    w.open('[');
    for (const runtime::Dimension& d : spec.shape) {
      if (d.symbol.empty()) {
        w.number(d.size);
      } else {
        w.string(d.symbol);
      }
    }
    w.close(']');
    w.close('}');
  }
  w.close(']');
}

}  // namespace

std::string describe(const runtime::Model& model) {
  const runtime::Manifest& m = model.package().manifest();
  plugin::JsonWriter w;
  w.open('{');
  w.key("family").string(m.family);
  w.key("variant").string(m.variant);
  w.key("head").string(m.head);
  w.key("engine").string(m.engine);
  w.key("format");
  w.open('[');
  w.number(m.format.major);
  w.number(m.format.minor);
  w.close(']');
  add_specs(w, "inputs", model.inputs());
  add_specs(w, "outputs", model.outputs());
  add_specs(w, "states", model.states());
  w.key("config");
  w.json(m.config_json);
  w.key("head_options");
  w.json(m.head_options_json);
  w.key("processors");
  w.open('{');
  for (const auto& [name, text] : m.processors_json) {
    w.key(name);
    w.json(text);
  }
  w.close('}');
  w.close('}');
  return w.take();
}

namespace {

runtime::LoadOptions load_options(const mambasdk_load_options* options) {
  runtime::LoadOptions out{.missing_engine = load_bundled_engine};
  if (options == nullptr) return out;
  const auto given = read_options(options, offsetof(mambasdk_load_options, verify), "load_options");
  switch (given.verify_files != 0 ? MAMBASDK_VERIFY_ALL : given.verify) {
    case MAMBASDK_VERIFY_AUTOMATIC:
      break;
    case MAMBASDK_VERIFY_OFF:
      out.verify = runtime::Verify::off;
      break;
    case MAMBASDK_VERIFY_ALL:
      out.verify = runtime::Verify::all;
      break;
    default:
      fail(ErrorCode::invalid_argument, "load_options.verify is ", given.verify,
           ", expected 0 (automatic), 1 (off) or 2 (all)");
  }
  out.allow_code = given.allow_code != 0;
  out.max_memory = given.max_memory;
  return out;
}

mambasdk_model* load(mambasdk_string directory, const runtime::LoadOptions& options) {
  const std::string path(checked_path(directory, "the directory"));
  auto made = std::make_unique<mambasdk_model>();
  made->model = runtime::load_model(path, options);
  made->description = describe(*made->model);
  return made.release();
}

}  // namespace

mambasdk_status* model_load(mambasdk_string directory, const mambasdk_load_options* options, mambasdk_model** model) {
  return guard(name_or_empty(directory), [&] {
    require(model, "model");
    *model = load(directory, load_options(options));
  });
}

mambasdk_status* model_load_with(mambasdk_string directory, const mambasdk_load_options* options,
                                 const mambasdk_engine_definition* engine, mambasdk_model** model) {
  return guard(name_or_empty(directory), [&] {
    require(model, "model");
    const runtime::Engine given = wrap_engine(engine, "host");
    runtime::LoadOptions wanted = load_options(options);
    wanted.engine = &given;
    *model = load(directory, wanted);
  });
}

void model_release(mambasdk_model* model) {
  delete model;
}

mambasdk_string model_describe(const mambasdk_model* model) {
  return model == nullptr ? mambasdk_string{"", 0} : view(std::string_view(model->description));
}

mambasdk_status* session_create(const mambasdk_model* model, const mambasdk_context* context,
                                mambasdk_session** session) {
  return guard("session_create", [&] {
    require(model, "model");
    require(session, "session");
    auto made = std::make_unique<mambasdk_session>();
    made->model = model->model;
    made->session = model->model->new_session(std::make_unique<HostContext>(context));
    *session = made.release();
  });
}

void session_release(mambasdk_session* session) {
  delete session;
}

mambasdk_status* session_run(mambasdk_session* session, const mambasdk_named_tensor* inputs, std::uint64_t input_count,
                             const mambasdk_string* output_names, std::uint64_t output_count,
                             mambasdk_managed_tensor** outputs) {
  return guard("session_run", [&] {
    require(session, "session");
    const InUse use(session->in_use, "session");
    const auto named = named_from_abi(inputs, input_count);
    require_array(output_names, output_count, "output_names");
    require_array(outputs, output_count, "outputs");
    std::vector<std::string_view> names;
    for (std::uint64_t i = 0; i < output_count; ++i) names.push_back(checked_text(output_names[i], "an output's name"));
    Outputs handles(output_count);
    handles.hand_out(session->session->run(named, names), outputs);
  });
}

mambasdk_status* session_reset(mambasdk_session* session) {
  return guard("session_reset", [&] {
    require(session, "session");
    const InUse use(session->in_use, "session");
    session->session->reset();
  });
}

mambasdk_status* session_clone(const mambasdk_session* session, mambasdk_session** clone) {
  return guard("session_clone", [&] {
    require(session, "session");
    require(clone, "clone");
    const InUse use(session->in_use, "session");
    auto made = std::make_unique<mambasdk_session>();
    made->session = session->session->clone();
    made->model = session->model;
    *clone = made.release();
  });
}

mambasdk_status* session_save(const mambasdk_session* session, void* data, std::uint64_t capacity,
                              std::uint64_t* size) {
  return guard("session_save", [&] {
    require(session, "session");
    require(size, "size");
    const InUse use(session->in_use, "session");
    const std::vector<std::byte> image = session->session->save();
    if (data != nullptr && capacity < image.size()) {
      fail(ErrorCode::invalid_argument, "the state needs ", image.size(), " bytes, the buffer has ", capacity);
    }
    if (data != nullptr) std::memcpy(data, image.data(), image.size());
    *size = image.size();
  });
}

mambasdk_status* session_memory(const mambasdk_session* session, mambasdk_session_memory* memory) {
  return guard("session_memory", [&] {
    require(session, "session");
    require(memory, "memory");
    (void)read_options(memory, sizeof(mambasdk_session_memory), "session_memory");
    const InUse use(session->in_use, "session");
    const runtime::SessionMemory found = session->session->memory();
    fill_struct(*memory, {sizeof(*memory), found.mapped_weights, found.prepared_weights, found.states, found.arena});
  });
}

mambasdk_status* session_restore(mambasdk_session* session, const void* data, std::uint64_t size) {
  return guard("session_restore", [&] {
    require(session, "session");
    require(data, "data");
    require_array(data, size, "data");
    const InUse use(session->in_use, "session");
    session->session->restore({static_cast<const std::byte*>(data), static_cast<std::size_t>(size)});
  });
}

}  // namespace mambasdk::abi
