// One registered operation as torch sees it: its schema, and what the boxed kernel must know to unpack a call.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mambasdk/mambasdk.h"

namespace mambasdk::torch_adapter {

struct Parameter {
  std::string name;
  std::int32_t kind = MAMBASDK_VALUE_TENSOR;  // MAMBASDK_VALUE_*
  bool optional = false;                      // Tensor?
  bool infinite = false;  // a float whose default is an infinity, which torch's schemas cannot spell
};

struct Operation {
  const mambasdk_op* op = nullptr;
  std::string name;
  const char* description = nullptr;  // the registry's JSON; lives as long as the process
  std::string schema;                 // "name(Tensor x, float eps=1e-05) -> Tensor y"
  std::vector<Parameter> inputs;
  std::size_t output_count = 0;
  std::vector<std::int32_t> device_types;  // that torch has a kernel for
};

// `description` is op_describe's JSON. Throws std::runtime_error when it cannot be expressed as a schema.
Operation parse_operation(const mambasdk_op* op, const char* description);
// DLPack types of the devices that it has a kernel for.
std::vector<std::int32_t> kernel_device_types(const char* description);

}  // namespace mambasdk::torch_adapter
