// selective_scan and its derivative: definitions for the registry.
#pragma once

#include <string_view>

#include "core/op.hpp"
#include "ops/selective_scan/scan_args.hpp"

namespace mambasdk {

void register_selective_scan(Registry& registry);

namespace selective_scan {

// B and C have a number of groups that divides the channels of argument `of`. Throws Error(invalid_argument).
void check_groups(std::string_view operation, std::int64_t groups, std::int64_t channels, std::string_view of);
// The vector kernel with its workspace; recomputes the chunk states where they are absent and needed.
void vector_backward(const Context& context, const SelectiveScanArgs& args, const SelectiveScanGrads& grads);

}  // namespace selective_scan
}  // namespace mambasdk
