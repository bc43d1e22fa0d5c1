// Models and sessions over the C ABI.
#pragma once

#include <atomic>
#include <memory>

#include "mambasdk/mambasdk.h"
#include "runtime/engine/engine.hpp"

struct mambasdk_model {
  std::shared_ptr<const mambasdk::runtime::Model> model;
  std::string description;
};

struct mambasdk_session {
  std::shared_ptr<const mambasdk::runtime::Model> model;
  std::shared_ptr<mambasdk::runtime::Session> session;
  mutable std::atomic<bool> in_use{false};
};

namespace mambasdk::abi {

// JSON, as model_describe gives it.
[[nodiscard]] std::string describe(const runtime::Model& model);

mambasdk_status* model_load(mambasdk_string directory, const mambasdk_load_options* options, mambasdk_model** model);
mambasdk_status* model_load_with(mambasdk_string directory, const mambasdk_load_options* options,
                                 const mambasdk_engine_definition* engine, mambasdk_model** model);
void model_release(mambasdk_model* model);
mambasdk_string model_describe(const mambasdk_model* model);
mambasdk_status* session_create(const mambasdk_model* model, const mambasdk_context* context,
                                mambasdk_session** session);
void session_release(mambasdk_session* session);
mambasdk_status* session_run(mambasdk_session* session, const mambasdk_named_tensor* inputs, std::uint64_t input_count,
                             const mambasdk_string* output_names, std::uint64_t output_count,
                             mambasdk_managed_tensor** outputs);
mambasdk_status* session_reset(mambasdk_session* session);
mambasdk_status* session_clone(const mambasdk_session* session, mambasdk_session** clone);
mambasdk_status* session_save(const mambasdk_session* session, void* data, std::uint64_t capacity, std::uint64_t* size);
mambasdk_status* session_memory(const mambasdk_session* session, mambasdk_session_memory* memory);
mambasdk_status* session_restore(mambasdk_session* session, const void* data, std::uint64_t size);

}  // namespace mambasdk::abi
