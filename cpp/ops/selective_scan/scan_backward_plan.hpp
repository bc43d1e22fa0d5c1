// How the backward scan is cut into work items, and where its workspace and scratch lie. By shape alone. For *.isa.cpp
// only.
#pragma once

#include "ops/selective_scan/scan_backward_passes.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

struct BackwardPlan {
  ChannelPlan channels;
  bool routed;         // outputs at positions add up over visits
  bool scatter;        // so do delta's, B's and C's
  bool direct;         // a group's grad_B and grad_C come from one task
  Index parts;         // work items that share the states of a block; what they add to is summed afterwards
  Index batch_groups;  // batch rows are shared out to this many work items per task
  Index round_steps, rounds;
  Index block_floats;  // A or states of a block
  Index tile_floats;   // a tile of a block
  std::size_t scratch;
  // Offsets into the workspace, in floats.
  Index carry, grad_A, grad_D, grad_bias, partial, sum_u, sum_z, sum_delta, sum_B, sum_C, part_tiles, chunk_sums,
      floats;

  static MAMBASDK_ALWAYS_INLINE BackwardPlan make(const SelectiveScanArgs& a, const SelectiveScanGrads& grads) {
    BackwardPlan p;
    p.channels = ChannelPlan::make(a, 8, 6);
    const Index tasks = p.channels.tasks, blocks = tasks * p.channels.task_blocks, N = a.states;
    p.routed = a.routes != 1 || a.order.data != nullptr;
    p.scatter = a.order.data != nullptr && !a.step_params;
    p.direct = p.channels.group_tasks <= 1;
    p.batch_groups = greater(1, lesser(a.batch, ceil_div(64, greater(1, tasks))));
    // One block of channels keeps one thread busy, three keep two busy by turns: there the states are shared out too.
    const Index all_blocks = p.channels.group_blocks * a.groups * a.batch;
    p.parts =
        !p.routed && (all_blocks == 1 || all_blocks == 3) && N > 0 && N % 16 == 0 && a.steps >= kScanChunk ? 2 : 1;
    p.round_steps = ceil_div(greater(a.steps, 1), kScanChunk) * kScanChunk;
    if (!p.direct) {  // partial sums of a round take about a mebibyte
      const Index step_floats = a.batch * tasks * 2 * N;
      const Index chunks = (Index{1} << 18) / greater(1, step_floats * kScanChunk);
      p.round_steps = lesser(p.round_steps, greater(1, chunks) * kScanChunk);
    }
    if (p.parts > 1) p.round_steps = lesser(p.round_steps, 32 * kScanChunk);
    p.rounds = greater(1, ceil_div(a.steps, p.round_steps));
    p.block_floats = N * kLanes;
    p.tile_floats = kScanChunk * kLanes;
    const Index scratch_floats = p.channels.task_blocks * p.block_floats + p.block_floats + kTiles * p.tile_floats +
                                 3 * kMostStates * p.tile_floats + 2 * kScanChunk * N + 2 * kLanes + 2 * kScanChunk * N;
    p.scratch = static_cast<std::size_t>(scratch_floats) * sizeof(float) + 5 * kScanChunk * sizeof(Index) +
                kScanChunk * sizeof(Segment);
    Index at = 0;
    const auto take = [&](Index count) {
      const Index here = at;
      at += ceil_div(count, 16) * 16;
      return here;
    };
    const Index round_tiles = p.parts > 1 ? a.batch * tasks * (p.round_steps / kScanChunk) : 0;
    p.part_tiles = take(p.parts * round_tiles * kPartTiles * p.tile_floats);
    p.chunk_sums = take(round_tiles * 2 * kLanes);
    const bool half = a.type.bits == 16;
    p.carry = take((p.rounds > 1 ? a.batch : p.batch_groups) * blocks * p.block_floats);
    p.grad_A = take(p.batch_groups * blocks * p.block_floats);
    p.grad_D = take(p.batch_groups * blocks * kLanes);
    p.grad_bias = take(p.batch_groups * blocks * kLanes);
    p.partial = take(p.direct ? 0 : a.batch * tasks * p.round_steps * 2 * N);
    p.sum_u = take(p.routed && half ? a.batch * a.length * a.channels : 0);
    p.sum_z = take(p.routed && half && grads.grad_z.data != nullptr ? a.batch * a.length * a.channels : 0);
    p.sum_delta = take(p.scatter && half ? a.batch * a.params * a.channels : 0);
    p.sum_B = take(p.scatter && half ? a.batch * a.params * a.groups * N : 0);
    p.sum_C = take(p.scatter && half ? a.batch * a.params * a.groups * N : 0);
    p.floats = at;
    return p;
  }
  MAMBASDK_ALWAYS_INLINE Index items() const { return channels.tasks * batch_groups * parts; }
  static constexpr int kPartTiles = 3;  // grad_dt, grad_dx, y
  static constexpr int kTiles = 9;      // dt, dx, u, dy, grad_dt, grad_dx, y, gate, slope
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
