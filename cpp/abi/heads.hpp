// Processors and heads that plugins and hosts bring, as the runtime's.
#pragma once

#include "mambasdk/mambasdk.h"
#include "runtime/pipeline/kinds.hpp"

namespace mambasdk::abi {

// Errors: version, invalid_argument.
[[nodiscard]] runtime::ProcessorKind wrap_processor(std::int32_t role, const mambasdk_processor_definition* definition,
                                                    std::string_view origin);
// Errors: invalid_argument.
[[nodiscard]] runtime::Role role_of(std::int32_t role);

}  // namespace mambasdk::abi
