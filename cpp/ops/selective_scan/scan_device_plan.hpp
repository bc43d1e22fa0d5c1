// How the selective scan's kernel is launched for a call.
#pragma once

#include <algorithm>
#include <cstddef>

#include "ops/selective_scan/scan_args.hpp"
#include "ops/selective_scan/scan_device.hpp"

namespace mambasdk::selective_scan {

struct DevicePlan {
  ScanParams params{};
  int states = 16;          // of the kernel: 16, 32 or 64
  std::int64_t blocks = 0;  // none: there is nothing to do
  int threads = 0;
  int shared_bytes = 0;
  std::size_t sums_bytes = 0;  // of workspace, for params.sums
};

// Bytes in which rows of a view can be copied that are `row` elements of `bits` along its last dim.
inline int copy_piece(const StridedView& v, int ndim, std::int64_t row, int bits) {
  for (const int bytes : {16, 4}) {
    bool fits = v.stride[ndim - 1] == 1 && row * bits / 8 % bytes == 0 &&
                reinterpret_cast<std::uintptr_t>(v.data) % static_cast<unsigned>(bytes) == 0;
    for (int d = 0; d + 1 < ndim; ++d) fits = fits && v.stride[d] * bits / 8 % bytes == 0;
    if (fits) return bytes;
  }
  return 0;
}

// `args` as given, not mirrored for `reverse`.
inline DevicePlan device_plan(const SelectiveScanArgs& a, bool reverse) {
  DevicePlan plan;
  const bool packed = a.cu_seqlens.data != nullptr, ordered = a.order.data != nullptr;
  const std::int64_t rows = !packed ? a.batch : ordered ? 1 : a.sequences;
  const std::int64_t group = a.groups == 0 ? 0 : a.channels / a.groups;
  plan.states = a.states <= 16 ? 16 : a.states <= 32 ? 32 : kDeviceMostStates;
  plan.threads = static_cast<int>(std::min<std::int64_t>(kDeviceThreads, (group + 31) / 32 * 32));
  const std::int64_t blocks = plan.threads == 0 ? 0 : (group + plan.threads - 1) / plan.threads;
  plan.blocks = rows * a.groups * blocks;
  const int element = a.type.bits / 8, steps = device_steps(plan.states), values = 2 * steps * plan.states;
  if (a.routes != 1 || ordered || a.states > plan.states) {
    plan.sums_bytes = static_cast<std::size_t>(a.batch * a.length * a.channels) * sizeof(float);
  }
  plan.params = {
      .length = a.length,
      .channels = a.channels,
      .routes = a.routes,
      .steps = a.steps,
      .states = a.states,
      .sequences = a.sequences,
      .group_channels = static_cast<int>(group),
      .group_blocks = static_cast<unsigned>(blocks),
      .blocks = static_cast<unsigned>(a.groups * blocks),
      .delta_softplus = a.delta_softplus,
      .step_params = a.step_params,
      .reverse = reverse,
      .wide_delta = a.wide_delta(),
      .wide_z = a.wide_z(),
      .u_piece = copy_piece(a.u, 3, group, a.type.bits),
      .delta_piece = copy_piece(a.delta, 4, group, a.delta_type.bits),
      .z_piece = copy_piece(a.z, 3, group, a.z_type.bits),
      .state_piece = std::min(copy_piece(a.B, 5, a.states, a.type.bits), copy_piece(a.C, 5, a.states, a.type.bits)),
      .u_begin = values * element,
      .delta_begin = 0,
      .z_begin = 0,
      .buffer_bytes = 0,
      .u = a.u,
      .delta = a.delta,
      .A = a.A,
      .B = a.B,
      .C = a.C,
      .D = a.D,
      .z = a.z,
      .delta_bias = a.delta_bias,
      .initial_state = a.initial_state,
      .order = a.order,
      .cu_seqlens = a.cu_seqlens,
      .y = a.y,
      .final_state = a.final_state,
      .chunk_states = a.chunk_states,
      .sums = nullptr};
  ScanParams& p = plan.params;
  const int row = steps * plan.threads;
  p.delta_begin = p.u_begin + row * element;
  p.z_begin = p.delta_begin + row * a.delta_type.bits / 8;
  p.buffer_bytes = p.z_begin + (a.z.data != nullptr && plan.sums_bytes == 0 ? row * a.z_type.bits / 8 : 0);
  plan.shared_bytes = 2 * p.buffer_bytes + (element == 4 ? 0 : 4 * values);
  return plan;
}

}  // namespace mambasdk::selective_scan
