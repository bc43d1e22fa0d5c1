// Processors, heads, pipelines and results over the C ABI.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "mambasdk/mambasdk.h"
#include "runtime/pipeline/pipeline.hpp"

struct mambasdk_processor {
  std::unique_ptr<mambasdk::runtime::Processor> processor;
  std::atomic<bool> in_use{false};
};

struct mambasdk_pipeline {
  std::unique_ptr<mambasdk::runtime::Pipeline> pipeline;
  std::atomic<bool> in_use{false};
};

struct mambasdk_result {
  mambasdk::runtime::Result result;
  std::vector<mambasdk_tensor> tensors;  // views of the result's
};

namespace mambasdk::abi {

mambasdk_status* processor_create(std::int32_t role, mambasdk_string kind, mambasdk_string config,
                                  mambasdk_string directory, mambasdk_processor** processor);
mambasdk_status* head_create(const mambasdk_model* model, const mambasdk_context* context, mambasdk_string kind,
                             mambasdk_string config, mambasdk_processor** head);
void processor_release(mambasdk_processor* processor);
mambasdk_status* processor_run(mambasdk_processor* processor, const mambasdk_context* context,
                               const mambasdk_named_tensor* inputs, std::uint64_t input_count,
                               mambasdk_result** result);
mambasdk_status* processor_reset(mambasdk_processor* processor);

mambasdk_status* pipeline_create(const mambasdk_model* model, const mambasdk_context* context,
                                 mambasdk_pipeline** pipeline);
mambasdk_status* pipeline_create_with(const mambasdk_model* model, const mambasdk_context* context,
                                      const mambasdk_processor_definition* head, mambasdk_pipeline** pipeline);
void pipeline_release(mambasdk_pipeline* pipeline);
mambasdk_status* pipeline_run(mambasdk_pipeline* pipeline, const mambasdk_named_tensor* inputs,
                              std::uint64_t input_count, const mambasdk_pipeline_options* options,
                              mambasdk_result** result);
mambasdk_status* pipeline_reset(mambasdk_pipeline* pipeline);

mambasdk_string result_json(const mambasdk_result* result);
std::uint64_t result_count(const mambasdk_result* result);
mambasdk_string result_name(const mambasdk_result* result, std::uint64_t index);
const mambasdk_tensor* result_tensor(const mambasdk_result* result, std::uint64_t index);
void result_release(mambasdk_result* result);

}  // namespace mambasdk::abi
