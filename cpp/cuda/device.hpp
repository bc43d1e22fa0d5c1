// What a kernel here may use beside C++, under one set of names for two compilers. nvcc makes PTX of it (cuda/ptx.hpp).
// Any other compiler takes the emulation of the tests (tests/cuda/emulation), which runs the same source on the CPU and
// checks every access. docs/cuda.md says how to write a kernel.
//
//   MAMBASDK_KERNEL(threads, blocks)   an entry point, launched with that many threads a block at most; so many blocks
//                                 shall fit into a multiprocessor by their registers
//   MAMBASDK_DEVICE               a function of the device
//   MAMBASDK_UNROLL               before a loop whose arrays are to stay in registers
//   MAMBASDK_ROLLED               before a loop that is to stay one
//   Global<T>, Shared<T>          pointers to the device's and to the block's memory; + and -, and nullptr
//   as<U>(p)                      the same place as another type
//   shared_memory<T>(offset)      the block's dynamic shared memory from that byte on
//   load(p), store(p, x)          an element
//   load_vector<n>(p), store_vector(p, v)   n elements in one access, aligned to all of them (at most 16 bytes)
//   add(p, x)                     atomically *p += x, of float32 in global memory; nothing comes back, and numbers
//   below
//                                 normal ones count as 0
//   thread_index(), block_index(), block_size(), grid_size()
//   barrier()                     of the block; every thread, at the same place
//   warp_barrier(mask)            of the lanes named; like barrier() it orders memory, which the collectives do not
//   shuffle(mask, x, lane), shuffle_xor(mask, x, lanes), ballot(mask, flag)   x has 32 bits; lanes named are all there
//   warp_sum(mask, x)             by butterflies, so in one order; mask is the whole warp
//   copy_async<bytes>(to, from)   global to shared, 4, 8 or 16 bytes, aligned to them
//   copy_commit(), copy_wait<n>() a group of this thread's copies; all but its last n groups are done
//   load_matrix<n>(row), load_matrix_transposed<n>(row)   ldmatrix of n = 1, 2 or 4 matrices of 8 x 8 halves
//   multiply_add(a, b, c)         mma.m16n8k16: a (16,16) row-major, b (16,8) column-major, c (16,8) in float32
//   exp2_approx(x)                ex2.approx.ftz: 2 ulp, results below 2^-126 are 0
//   reciprocal_approx(x)          rcp.approx.ftz: 1 ulp
//   widen(x), narrow<T>(x)        float32 from and to float, bf16 and f16, rounded to nearest even
//
// mbarrier, TMA and wgmma are not here.
#pragma once

#include "cuda/types.hpp"

#ifdef __CUDACC__
#include "cuda/ptx.hpp"
#else
#include <emulation/device.hpp>
#endif

namespace mambasdk::cuda {

MAMBASDK_DEVICE float warp_sum(std::uint32_t mask, float x) {
  MAMBASDK_UNROLL
  for (unsigned lanes = kWarp / 2; lanes > 0; lanes /= 2) x += shuffle_xor(mask, x, lanes);
  return x;
}

}  // namespace mambasdk::cuda
