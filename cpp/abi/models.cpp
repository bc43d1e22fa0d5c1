#include "abi/models.hpp"

#include <cstring>
#include <nlohmann/json.hpp>

#include "abi/convert.hpp"
#include "abi/engines.hpp"

namespace mambasdk::abi {

namespace {

using runtime::Dimension;
using Json = nlohmann::ordered_json;

Json shape_json(const std::vector<Dimension>& shape) {
  Json out = Json::array();
  for (const Dimension& d : shape) out.push_back(d.symbol.empty() ? Json(d.size) : Json(d.symbol));
  return out;
}

template <class Specs>
Json specs_json(const Specs& specs) {
  Json out = Json::array();
  for (const auto& spec : specs) {
    std::string type;
    if constexpr (requires { spec.dtype.bits; }) {
      type = dtype_name(spec.dtype);
    } else {
      type = spec.dtype;
    }
    out.push_back({{"name", spec.name}, {"dtype", type}, {"shape", shape_json(spec.shape)}});
  }
  return out;
}

std::string describe(const runtime::Model& model) {
  const runtime::Manifest& m = model.package().manifest();
  Json j = {{"family", m.family},
            {"variant", m.variant},
            {"head", m.head},
            {"engine", m.engine},
            {"format", {m.format.major, m.format.minor}},
            {"inputs", specs_json(m.inputs)},
            {"outputs", specs_json(model.outputs())},
            {"states", specs_json(model.states())},
            {"config", Json::parse(m.config_json, nullptr, false)},
            {"head_options", Json::parse(m.head_options_json, nullptr, false)}};
  j["processors"] = Json::object();
  for (const auto& [name, text] : m.processors_json) j["processors"][name] = Json::parse(text, nullptr, false);
  return j.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const runtime::Session& session_of(const mambasdk_session* session) {
  if (session == nullptr) fail(ErrorCode::invalid_argument, "the session is NULL");
  return *session->session;
}

}  // namespace

mambasdk_status* model_load(mambasdk_string directory, const mambasdk_load_options* options, mambasdk_model** model) {
  return guard(view(directory), [&] {
    if (model == nullptr) fail(ErrorCode::invalid_argument, "model is NULL");
    runtime::LoadOptions wanted{.missing_engine = load_bundled_engine};
    if (options != nullptr) {
      if (options->struct_size < sizeof(std::uint64_t) + sizeof(std::int32_t)) {
        fail(ErrorCode::invalid_argument, "load_options.struct_size is not set");
      }
      wanted.verify_files = options->verify_files != 0;
    }
    auto made = std::make_unique<mambasdk_model>();
    made->model = runtime::load_model(std::string(view(directory)), wanted);
    made->description = describe(*made->model);
    *model = made.release();
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
    if (model == nullptr || session == nullptr) fail(ErrorCode::invalid_argument, "model or session is NULL");
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
    (void)session_of(session);
    const auto named = named_from_abi(inputs, input_count);
    std::vector<std::string_view> names;
    for (std::uint64_t i = 0; i < output_count; ++i) names.push_back(checked_text(output_names[i], "an output's name"));
    if (output_count > 0 && outputs == nullptr) fail(ErrorCode::invalid_argument, "outputs is NULL");
    std::vector<runtime::OwnedTensor> made = session->session->run(named, names);
    for (std::uint64_t i = 0; i < output_count; ++i) outputs[i] = hand_out(std::move(made[i]));
  });
}

mambasdk_status* session_reset(mambasdk_session* session) {
  return guard("session_reset", [&] {
    (void)session_of(session);
    session->session->reset();
  });
}

mambasdk_status* session_clone(const mambasdk_session* session, mambasdk_session** clone) {
  return guard("session_clone", [&] {
    if (clone == nullptr) fail(ErrorCode::invalid_argument, "clone is NULL");
    auto made = std::make_unique<mambasdk_session>();
    made->session = session_of(session).clone();
    made->model = session->model;
    *clone = made.release();
  });
}

mambasdk_status* session_save(const mambasdk_session* session, void* data, std::uint64_t capacity,
                              std::uint64_t* size) {
  return guard("session_save", [&] {
    if (size == nullptr) fail(ErrorCode::invalid_argument, "size is NULL");
    const std::vector<std::byte> image = session_of(session).save();
    *size = image.size();
    if (data == nullptr) return;
    if (capacity < image.size()) {
      fail(ErrorCode::invalid_argument, "the state needs ", image.size(), " bytes, the buffer has ", capacity);
    }
    std::memcpy(data, image.data(), image.size());
  });
}

mambasdk_status* session_restore(mambasdk_session* session, const void* data, std::uint64_t size) {
  return guard("session_restore", [&] {
    (void)session_of(session);
    if (data == nullptr) fail(ErrorCode::invalid_argument, "data is NULL");
    session->session->restore({static_cast<const std::byte*>(data), static_cast<std::size_t>(size)});
  });
}

}  // namespace mambasdk::abi
