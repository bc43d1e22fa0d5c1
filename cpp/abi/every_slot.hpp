// The slots of the table, for tests that go over all of them.
#pragma once

#include "mambasdk/mambasdk.h"

// clang-format off
#define MAMBASDK_EVERY_SLOT(X) \
  X(status_code) X(status_message) X(status_origin) X(status_create) X(status_release) X(version) X(isa_detected) \
  X(isa_active) X(set_max_isa) X(set_num_threads) X(num_threads) X(op_list) X(op_find) X(op_describe) X(op_plan) \
  X(op_call) X(plugin_load) X(register_op) X(register_kernel) X(model_load) X(model_release) X(model_describe) \
  X(session_create) X(session_release) X(session_run) X(session_reset) X(session_clone) X(session_save) \
  X(session_restore) X(tokenizer_load) X(tokenizer_of_model) X(tokenizer_release) X(tokenizer_vocab_size) \
  X(tokenizer_encode) X(tokenizer_decode) X(sampler_create) X(sampler_release) X(sampler_sample) X(sampler_observe) \
  X(session_generate) X(text_stream_create) X(text_stream_release) X(text_stream_push) X(text_stream_finish) \
  X(runtime_describe) X(component_declare) X(register_engine) X(register_processor) X(processor_create) \
  X(processor_release) X(processor_run) X(processor_reset) X(pipeline_create) X(pipeline_release) X(pipeline_run) \
  X(pipeline_reset) X(result_json) X(result_count) X(result_name) X(result_tensor) X(result_release) \
  X(register_device) X(device_find) X(head_create) X(model_load_with) X(pipeline_create_with) \
  X(session_memory)
// clang-format on

#define MAMBASDK_COUNT_SLOT(slot) +1
static_assert(sizeof(mambasdk_api) == 16 + sizeof(void*) * (0 MAMBASDK_EVERY_SLOT(MAMBASDK_COUNT_SLOT)),
              "the table has a slot that is not listed here");
#undef MAMBASDK_COUNT_SLOT
