// The plain types of cuda/device.hpp.
#pragma once

#include <cstdint>

#include "core/dtype.hpp"

namespace mambasdk::cuda {

inline constexpr unsigned kWarp = 32, kWholeWarp = 0xffffffffu;

struct Dim {
  unsigned x = 1, y = 1, z = 1;
};

template <class T, int n>
struct alignas(sizeof(T) * n) Vector {
  T value[n];
};

// The registers that a lane holds of matrices; element (r, c) of an 8 x 8 matrix is half c % 2 of lane 4 r + c / 2.
template <int n>
struct Matrices {
  std::uint32_t bits[n];
};
template <class T>
struct FragmentA {  // (16,16): rows 0-7 and 8-15 of columns 0-7, then of columns 8-15
  std::uint32_t bits[4];
};
template <class T>
struct FragmentB {  // (16,8): rows 0-7, then 8-15; a lane holds two rows of one column
  std::uint32_t bits[2];
};
struct FragmentC {  // (16,8): two columns of row lane / 4, then of row lane / 4 + 8
  float value[4];
};

}  // namespace mambasdk::cuda
