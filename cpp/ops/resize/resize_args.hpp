// resize: interpolation of a map at a regular grid. Argument structs of the kernels.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "ops/map.hpp"

namespace mambasdk {

namespace resize {

inline constexpr int kMaxTaps = 4;

// What one output position takes of one axis: `count` positions of x, one behind the other or the same, and weights.
struct Taps {
  std::int64_t index[kMaxTaps] = {};
  double weight[kMaxTaps] = {};
  int count = 0;
};

struct Axis {
  const Taps* taps = nullptr;
  std::int64_t size = 0;  // of the output
};

// Scratch for rows of few channels, whose outputs are vectors across columns: where each of their lanes has its taps.
// Without it (taps is 0) every column is a vector of its own.
struct Narrow {
  int taps = 0;                  // of every output: 1, 2 or 4
  std::int64_t lanes = 0;        // elements of an output row, rounded up to kNarrowChannels
  std::int64_t* base = nullptr;  // (lanes / 4,) per vector of the output: the element of x's row that places count from
  std::int32_t* place = nullptr;  // (taps, lanes)
  float* weight = nullptr;        // (taps, lanes)
};
inline constexpr std::int64_t kNarrowChannels = 16;

struct Args {
  Map x;
  Axis axis[3] = {};  // depth, height, width
  void* y = nullptr;  // (batch, depth, height, width, channels) of x's type
  Narrow narrow = {};
  int most_taps = 0;  // of an output along the width
};

}  // namespace resize

// Every output is a copy of one position.
MAMBASDK_DECLARE_KERNEL(void, resize_nearest, const resize::Args&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, resize_weighted, const resize::Args&, const Parallel&);

}  // namespace mambasdk
