// Native plugins: query, staged registration, commit.
#pragma once

#include <cstdint>

#include "mambasdk/mambasdk.h"

namespace mambasdk::abi {

mambasdk_status* plugin_load(mambasdk_string absolute_path, mambasdk_string* description);
mambasdk_status* register_op(mambasdk_registrar* registrar, const mambasdk_op_definition* definition);
mambasdk_status* register_kernel(mambasdk_registrar* registrar, mambasdk_string op, std::int32_t device_type,
                                 mambasdk_kernel_fn kernel, void* self);
mambasdk_status* register_device(mambasdk_registrar* registrar, const mambasdk_device_definition* definition);
mambasdk_status* register_engine(mambasdk_registrar* registrar, const mambasdk_engine_definition* definition);
mambasdk_status* register_processor(mambasdk_registrar* registrar, std::int32_t role,
                                    const mambasdk_processor_definition* definition);

// The same with the descriptor in hand: what plugin_load does once the library is open. For tests and static plugins.
mambasdk_status* plugin_register(const mambasdk_plugin_descriptor* descriptor, mambasdk_string origin,
                                 mambasdk_string* description);

}  // namespace mambasdk::abi
