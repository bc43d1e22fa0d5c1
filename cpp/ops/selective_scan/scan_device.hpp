// The arguments of the selective scan's kernel on a device, for both compilers of selective_scan.cu.
#pragma once

#include <cstdint>

#include "core/strided.hpp"

namespace mambasdk::selective_scan {

inline constexpr int kDeviceThreads = 128;    // of a block, at most: each has a channel
inline constexpr int kDeviceChunk = 128;      // steps between saved states
inline constexpr int kDeviceMostStates = 64;  // of a channel in registers; more take several passes

// Views as in SelectiveScanArgs, not mirrored: with `reverse` the kernel itself takes the steps from the last.
struct ScanParams {
  std::int64_t length, channels, routes, steps, states, sequences;
  int group_channels;             // channels of a group
  unsigned group_blocks, blocks;  // of a group's channels, and of a row of the batch
  bool delta_softplus, step_params, reverse, wide_delta, wide_z;
  // Bytes that go to shared memory at a time: 16, 4, or 0 where a tensor does not lie so and goes by elements.
  int u_piece, delta_piece, z_piece, state_piece;  // of z 0 too where it is not staged; state: B and C
  // Where rows of u, delta and z begin in a buffer of shared memory, after B and C, and where the next buffer does.
  int u_begin, delta_begin, z_begin, buffer_bytes;
  StridedView u;              // T[B,L,D]
  StridedView delta;          // W[B,K,P,D]
  StridedView A;              // f32[K,D,N]
  StridedView B, C;           // T[B,K,P,G,N]
  StridedView D;              // f32[K,D]
  StridedView z;              // R[B,L,D]
  StridedView delta_bias;     // f32[K,D]
  StridedView initial_state;  // f32[S,K,D,N]
  StridedView order;          // i32[K,M]
  StridedView cu_seqlens;     // i32[S+1]
  StridedView y;              // T[B,L,D]
  StridedView final_state;    // f32[S,K,D,N]
  StridedView chunk_states;   // f32[B,K,Q,D,N]
  float* sums;                // f32[B,L,D]: of routes and passes; null where there is one of each and no order
};

// Steps that are taken between barriers.
constexpr int device_steps(int states) {
  return states <= 16 ? 8 : 4;
}

// Blocks whose registers a multiprocessor shall hold.
constexpr int device_blocks(int states) {
  return states <= 16 ? 4 : states <= 32 ? 3 : 2;
}

}  // namespace mambasdk::selective_scan
