// The table of the C ABI; entry.cpp hands it out.
#include "abi/catalogue.hpp"
#include "abi/convert.hpp"
#include "abi/devices.hpp"
#include "abi/models.hpp"
#include "abi/operations.hpp"
#include "abi/pipelines.hpp"
#include "abi/plugins.hpp"
#include "abi/text.hpp"
#include "core/executor.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::abi {
namespace {

std::int32_t status_code(const mambasdk_status* s) {
  return s == nullptr ? 0 : s->code;
}
mambasdk_string status_message(const mambasdk_status* s) {
  return s == nullptr ? mambasdk_string{"", 0} : view(std::string_view(s->message));
}
mambasdk_string status_origin(const mambasdk_status* s) {
  return s == nullptr ? mambasdk_string{"", 0} : view(std::string_view(s->origin));
}
mambasdk_status* status_create(std::int32_t code, mambasdk_string message, mambasdk_string origin) {
  const bool known = code >= MAMBASDK_ERROR_INVALID_ARGUMENT && code <= MAMBASDK_ERROR_INTERNAL;
  return make_status(known ? code : MAMBASDK_ERROR_INTERNAL, name_or_empty(message), name_or_empty(origin));
}
void status_release(mambasdk_status* s) {
  release_status(s);
}

mambasdk_string version() {
  return view(std::string_view(MAMBASDK_VERSION));
}
mambasdk_string isa_detected() {
  return view(std::string_view(isa_name(detected_isa())));
}
mambasdk_string isa_active() {
  return view(std::string_view(isa_name(active_isa())));
}

mambasdk_status* set_isa(mambasdk_string name) {
  return guard("set_max_isa", [&] {
    const std::string_view wanted = checked_text(name, "the instruction set");
    for (int i = 0; i < kIsaCount; ++i) {
      if (wanted == isa_name(static_cast<Isa>(i))) return set_max_isa(static_cast<Isa>(i));
    }
    fail(ErrorCode::invalid_argument, "instruction set \"", runtime::printable(wanted),
         "\" is none of baseline, avx2, avx512, avx512_bf16, avx512_amx");
  });
}

mambasdk_status* set_threads(std::int32_t count) {
  return guard("set_num_threads",
               [&] { set_num_threads(count != 0 ? count : static_cast<int>(std::thread::hardware_concurrency())); });
}
std::int32_t threads() {
  return guard_value(0, [] { return num_threads(); });  // a wrong MAMBASDK_NUM_THREADS: whatever runs says so
}

}  // namespace

extern const mambasdk_api table;
constinit const mambasdk_api table = {
    sizeof(mambasdk_api),
    MAMBASDK_ABI_MAJOR,
    MAMBASDK_ABI_MINOR,
    status_code,
    status_message,
    status_origin,
    status_create,
    status_release,
    version,
    isa_detected,
    isa_active,
    set_isa,
    set_threads,
    threads,
    op_list,
    op_find,
    op_describe,
    op_plan,
    op_call,
    plugin_load,
    register_op,
    register_kernel,
    model_load,
    model_release,
    model_describe,
    session_create,
    session_release,
    session_run,
    session_reset,
    session_clone,
    session_save,
    session_restore,
    tokenizer_load,
    tokenizer_of_model,
    tokenizer_release,
    tokenizer_vocab_size,
    tokenizer_encode,
    tokenizer_decode,
    sampler_create,
    sampler_release,
    sampler_sample,
    sampler_observe,
    session_generate,
    text_stream_create,
    text_stream_release,
    text_stream_push,
    text_stream_finish,
    runtime_describe,
    component_declare,
    register_engine,
    register_processor,
    processor_create,
    processor_release,
    processor_run,
    processor_reset,
    pipeline_create,
    pipeline_release,
    pipeline_run,
    pipeline_reset,
    result_json,
    result_count,
    result_name,
    result_tensor,
    result_release,
    register_device,
    device_find,
    head_create,
    model_load_with,
    pipeline_create_with,
    session_memory,
};

}  // namespace mambasdk::abi
