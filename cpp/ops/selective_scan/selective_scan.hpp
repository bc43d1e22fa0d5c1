// selective_scan and its derivative: definitions for the registry.
#pragma once

#include "core/op.hpp"
#include "ops/selective_scan/scan_args.hpp"

namespace mambasdk {

void register_selective_scan(Registry& registry);

// A view of a tensor, or an absent one; a present tensor without memory (no elements) stays present.
[[nodiscard]] ScanView scan_view(const Tensor* tensor);
// Scratch of running ranges, from the context's allocator.
[[nodiscard]] ScanScratch scan_scratch(const Context& context);
// The vector kernel with its workspace; recomputes the chunk states where they are absent and needed.
void run_selective_scan_backward(const Context& context, const SelectiveScanArgs& args,
                                 const SelectiveScanGrads& grads);

}  // namespace mambasdk
