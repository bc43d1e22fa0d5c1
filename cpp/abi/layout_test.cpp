// The bytes of the C ABI. A number here may not change: what a released minor had stays where it was, and what a new
// minor brings comes after it. `tests/abi` compares with the frozen headers and with the baseline of abidiff too.
#include <gtest/gtest.h>

#include <cstddef>

#include "mambasdk/mambasdk.h"

namespace {

#define AT(type, member, bytes) static_assert(offsetof(type, member) == (bytes))
#define SIZE(type, bytes) static_assert(sizeof(type) == (bytes))
#define SLOT(member, index) AT(mambasdk_api, member, 16 + 8 * (index))

static_assert(sizeof(void*) == 8 && sizeof(void (*)()) == 8);

SIZE(mambasdk_string, 16);
AT(mambasdk_string, size, 8);
SIZE(mambasdk_device, 8);
SIZE(mambasdk_dtype, 4);
AT(mambasdk_dtype, bits, 1);
AT(mambasdk_dtype, lanes, 2);

// DLPack's
SIZE(mambasdk_tensor, 48);
AT(mambasdk_tensor, device, 8);
AT(mambasdk_tensor, ndim, 16);
AT(mambasdk_tensor, dtype, 20);
AT(mambasdk_tensor, shape, 24);
AT(mambasdk_tensor, strides, 32);
AT(mambasdk_tensor, byte_offset, 40);
SIZE(mambasdk_managed_tensor, 80);
AT(mambasdk_managed_tensor, manager, 8);
AT(mambasdk_managed_tensor, deleter, 16);
AT(mambasdk_managed_tensor, flags, 24);
AT(mambasdk_managed_tensor, tensor, 32);

// since 1.0
SIZE(mambasdk_context, 64);
AT(mambasdk_context, device, 8);
AT(mambasdk_context, stream, 16);
AT(mambasdk_context, user, 24);
AT(mambasdk_context, parallel_for, 32);
AT(mambasdk_context, allocate, 40);
AT(mambasdk_context, release, 48);
AT(mambasdk_context, is_cancelled, 56);
SIZE(mambasdk_value, 16);
AT(mambasdk_value, as, 8);
SIZE(mambasdk_output_plan, 80);
AT(mambasdk_output_plan, ndim, 4);
AT(mambasdk_output_plan, present, 8);
AT(mambasdk_output_plan, shape, 16);
SIZE(mambasdk_op_call, 64);
AT(mambasdk_op_call, context, 8);
AT(mambasdk_op_call, inputs, 16);
AT(mambasdk_op_call, input_count, 24);
AT(mambasdk_op_call, outputs, 32);
AT(mambasdk_op_call, output_count, 40);
AT(mambasdk_op_call, dims, 48);
AT(mambasdk_op_call, dim_count, 56);
SIZE(mambasdk_named_tensor, 24);
AT(mambasdk_named_tensor, tensor, 16);
AT(mambasdk_load_options, verify_files, 8);
SIZE(mambasdk_sampler_options, 56);
AT(mambasdk_sampler_options, temperature, 8);
AT(mambasdk_sampler_options, top_p, 16);
AT(mambasdk_sampler_options, min_p, 24);
AT(mambasdk_sampler_options, repetition_penalty, 32);
AT(mambasdk_sampler_options, top_k, 40);
AT(mambasdk_sampler_options, seed, 48);
SIZE(mambasdk_generate_options, 56);
AT(mambasdk_generate_options, sampler, 8);
AT(mambasdk_generate_options, max_new_tokens, 16);
AT(mambasdk_generate_options, stop, 24);
AT(mambasdk_generate_options, stop_count, 32);
AT(mambasdk_generate_options, on_text, 40);
AT(mambasdk_generate_options, user, 48);
SIZE(mambasdk_session_memory, 40);
AT(mambasdk_session_memory, mapped_weights, 8);
AT(mambasdk_session_memory, prepared_weights, 16);
AT(mambasdk_session_memory, states, 24);
AT(mambasdk_session_memory, arena, 32);
SIZE(mambasdk_generate_result, 40);
AT(mambasdk_generate_result, prompt_tokens, 8);
AT(mambasdk_generate_result, new_tokens, 16);
AT(mambasdk_generate_result, prefill_seconds, 24);
AT(mambasdk_generate_result, decode_seconds, 32);
AT(mambasdk_plugin_descriptor, abi_major, 8);
AT(mambasdk_plugin_descriptor, abi_minor, 12);
AT(mambasdk_plugin_descriptor, name, 16);
AT(mambasdk_plugin_descriptor, version, 32);
AT(mambasdk_plugin_descriptor, requires_isa, 48);
AT(mambasdk_plugin_descriptor, initialize, 64);
SIZE(mambasdk_op_definition, 72);
AT(mambasdk_op_definition, signature, 8);
AT(mambasdk_op_definition, doc, 24);
AT(mambasdk_op_definition, self, 40);
AT(mambasdk_op_definition, check, 48);
AT(mambasdk_op_definition, reference, 56);
AT(mambasdk_op_definition, cpu, 64);

// since 1.1
SIZE(mambasdk_plugin_descriptor, 104);
AT(mambasdk_plugin_descriptor, requires_torch, 72);
AT(mambasdk_plugin_descriptor, requires_cuda, 88);
AT(mambasdk_package, directory, 8);
AT(mambasdk_package, manifest, 24);
AT(mambasdk_engine_definition, name, 8);
AT(mambasdk_engine_definition, doc, 24);
AT(mambasdk_engine_definition, self, 40);
AT(mambasdk_engine_definition, model_load, 48);
AT(mambasdk_engine_definition, model_release, 56);
AT(mambasdk_engine_definition, session_create, 64);
AT(mambasdk_engine_definition, session_release, 72);
AT(mambasdk_engine_definition, session_run, 80);
AT(mambasdk_engine_definition, session_reset, 88);
AT(mambasdk_engine_definition, session_clone, 96);
AT(mambasdk_engine_definition, session_save, 104);
AT(mambasdk_engine_definition, session_restore, 112);
AT(mambasdk_processor_definition, kind, 8);
AT(mambasdk_processor_definition, doc, 24);
AT(mambasdk_processor_definition, self, 40);
AT(mambasdk_processor_definition, create, 48);
AT(mambasdk_processor_definition, release, 56);
AT(mambasdk_processor_definition, run, 64);
AT(mambasdk_processor_definition, reset, 72);
SIZE(mambasdk_pipeline_options, 40);
AT(mambasdk_pipeline_options, json, 8);
AT(mambasdk_pipeline_options, on_text, 24);
AT(mambasdk_pipeline_options, user, 32);

// since 1.2
SIZE(mambasdk_load_options, 32);
AT(mambasdk_load_options, verify, 16);
AT(mambasdk_load_options, allow_code, 20);
AT(mambasdk_load_options, max_memory, 24);
SIZE(mambasdk_package, 56);
AT(mambasdk_package, max_memory, 40);
AT(mambasdk_package, allow_code, 48);
SIZE(mambasdk_engine_definition, 136);
AT(mambasdk_engine_definition, executes_code, 120);
SIZE(mambasdk_device_definition, 120);
AT(mambasdk_device_definition, type, 8);
AT(mambasdk_device_definition, name, 16);
AT(mambasdk_device_definition, doc, 32);
AT(mambasdk_device_definition, self, 48);
AT(mambasdk_device_definition, count, 56);
AT(mambasdk_device_definition, allocate, 64);
AT(mambasdk_device_definition, release, 72);
AT(mambasdk_device_definition, copy, 80);
AT(mambasdk_device_definition, fill, 88);
AT(mambasdk_device_definition, synchronize, 96);
AT(mambasdk_device_definition, stream_create, 104);
AT(mambasdk_device_definition, stream_release, 112);
AT(mambasdk_engine_definition, model_tensors, 128);
SIZE(mambasdk_tensor_spec, 32);
AT(mambasdk_tensor_spec, dtype, 16);
AT(mambasdk_tensor_spec, ndim, 20);
AT(mambasdk_tensor_spec, shape, 24);
SIZE(mambasdk_head_model, 56);
AT(mambasdk_head_model, model, 8);
AT(mambasdk_head_model, session, 16);
AT(mambasdk_head_model, inputs, 24);
AT(mambasdk_head_model, input_count, 32);
AT(mambasdk_head_model, outputs, 40);
AT(mambasdk_head_model, output_count, 48);
SIZE(mambasdk_head_run, 72);
AT(mambasdk_head_run, context, 8);
AT(mambasdk_head_run, model, 16);
AT(mambasdk_head_run, inputs, 24);
AT(mambasdk_head_run, input_count, 32);
AT(mambasdk_head_run, emit, 40);
AT(mambasdk_head_run, emit_user, 48);
AT(mambasdk_head_run, on_text, 56);
AT(mambasdk_head_run, text_user, 64);
SIZE(mambasdk_processor_definition, 96);
AT(mambasdk_processor_definition, drive, 80);
AT(mambasdk_processor_definition, attach, 88);

AT(mambasdk_api, struct_size, 0);
AT(mambasdk_api, abi_major, 8);
AT(mambasdk_api, abi_minor, 12);
// since 1.0
SLOT(status_code, 0);
SLOT(status_message, 1);
SLOT(status_origin, 2);
SLOT(status_create, 3);
SLOT(status_release, 4);
SLOT(version, 5);
SLOT(isa_detected, 6);
SLOT(isa_active, 7);
SLOT(set_max_isa, 8);
SLOT(set_num_threads, 9);
SLOT(num_threads, 10);
SLOT(op_list, 11);
SLOT(op_find, 12);
SLOT(op_describe, 13);
SLOT(op_plan, 14);
SLOT(op_call, 15);
SLOT(plugin_load, 16);
SLOT(register_op, 17);
SLOT(register_kernel, 18);
SLOT(model_load, 19);
SLOT(model_release, 20);
SLOT(model_describe, 21);
SLOT(session_create, 22);
SLOT(session_release, 23);
SLOT(session_run, 24);
SLOT(session_reset, 25);
SLOT(session_clone, 26);
SLOT(session_save, 27);
SLOT(session_restore, 28);
SLOT(tokenizer_load, 29);
SLOT(tokenizer_of_model, 30);
SLOT(tokenizer_release, 31);
SLOT(tokenizer_vocab_size, 32);
SLOT(tokenizer_encode, 33);
SLOT(tokenizer_decode, 34);
SLOT(sampler_create, 35);
SLOT(sampler_release, 36);
SLOT(sampler_sample, 37);
SLOT(sampler_observe, 38);
SLOT(session_generate, 39);
SLOT(text_stream_create, 40);
SLOT(text_stream_release, 41);
SLOT(text_stream_push, 42);
SLOT(text_stream_finish, 43);
// since 1.1
SLOT(runtime_describe, 44);
SLOT(component_declare, 45);
SLOT(register_engine, 46);
SLOT(register_processor, 47);
SLOT(processor_create, 48);
SLOT(processor_release, 49);
SLOT(processor_run, 50);
SLOT(processor_reset, 51);
SLOT(pipeline_create, 52);
SLOT(pipeline_release, 53);
SLOT(pipeline_run, 54);
SLOT(pipeline_reset, 55);
SLOT(result_json, 56);
SLOT(result_count, 57);
SLOT(result_name, 58);
SLOT(result_tensor, 59);
SLOT(result_release, 60);
// since 1.2
SLOT(register_device, 61);
SLOT(device_find, 62);
SLOT(head_create, 63);
SLOT(model_load_with, 64);
SLOT(pipeline_create_with, 65);
SLOT(session_memory, 66);
SIZE(mambasdk_api, 16 + 8 * 67);

TEST(Layout, TheTableIsAsLongAsItSaysAndFull) {
  const mambasdk_api* api = mambasdk_get_api(MAMBASDK_ABI_MAJOR, MAMBASDK_ABI_MINOR);
  ASSERT_NE(api, nullptr);
  EXPECT_EQ(api->struct_size, sizeof(mambasdk_api));
  EXPECT_EQ(api->abi_major, 1u);
  EXPECT_EQ(api->abi_minor, 2u);
  const auto* slots = reinterpret_cast<void* const*>(reinterpret_cast<const char*>(api) + 16);
  for (std::size_t i = 0; i < (sizeof(mambasdk_api) - 16) / sizeof(void*); ++i) EXPECT_NE(slots[i], nullptr) << i;
}

TEST(Layout, ASlotIsThereOrNotByTheSizeOfTheTable) {
  mambasdk_api old = *mambasdk_get_api(1, 0);
  EXPECT_TRUE(MAMBASDK_HAS_SLOT(&old, result_release));
  old.struct_size = offsetof(mambasdk_api, runtime_describe);
  EXPECT_TRUE(MAMBASDK_HAS_SLOT(&old, text_stream_finish));
  EXPECT_FALSE(MAMBASDK_HAS_SLOT(&old, runtime_describe));
  old.struct_size += 4;  // half a slot is none
  EXPECT_FALSE(MAMBASDK_HAS_SLOT(&old, runtime_describe));
}

}  // namespace
