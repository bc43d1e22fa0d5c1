// How a forward scan is cut into tiles and work items, and the memory of a running range. For *.isa.cpp only.
#pragma once

#include "ops/selective_scan/scan_tile.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr Index kTile = 64;  // steps; divides kScanChunk
static_assert(kScanChunk % kTile == 0);

struct Plan {
  ChannelPlan channels;
  Index parts;          // work items that share the states of a block; with more than one, y is their sum
  bool direct;          // one visit per position: outputs are stored at once
  std::size_t scratch;  // bytes of a running range
  Index block_floats;   // A or states of a block

  static MAMBASDK_ALWAYS_INLINE Plan make(const SelectiveScanArgs& a) {
    Plan p;
    p.channels = ChannelPlan::make(a, 8, 16);
    p.direct = a.routes == 1 && a.order.data == nullptr;
    // One block of channels keeps one thread busy, three keep two busy by turns: there the states are shared out too.
    const Index blocks = p.channels.group_blocks * a.groups * a.batch;
    p.parts =
        p.direct && (blocks == 1 || blocks == 3) && a.states > 0 && a.states % 16 == 0 && a.steps >= 2 * kTile ? 2 : 1;
    p.block_floats = a.states * kLanes;
    const Index floats = p.channels.task_blocks * (p.block_floats * (1 + a.routes) + kLanes * a.routes) +
                         3 * kTile * kLanes + 2 * kTile * a.states + 2 * kLanes;
    p.scratch = static_cast<std::size_t>(floats) * sizeof(float) + 5 * kTile * sizeof(Index) + kTile * sizeof(Segment);
    return p;
  }
  MAMBASDK_ALWAYS_INLINE Index items(const SelectiveScanArgs& a) const { return channels.tasks * a.batch * parts; }
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
