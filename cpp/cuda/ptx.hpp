// cuda/device.hpp for nvcc: sm_80 and later.
#pragma once

#include <type_traits>

// NOLINTBEGIN: macros and assembly are what this file is for
#define MAMBASDK_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define MAMBASDK_DEVICE __device__ __forceinline__
#define MAMBASDK_UNROLL _Pragma("unroll")
#define MAMBASDK_ROLLED _Pragma("unroll 1")
// NOLINTEND

namespace mambasdk::cuda {

template <class T>
using Global = T*;
template <class T>
using Shared = T*;

template <class U, class T>
MAMBASDK_DEVICE U* as(T* p) {
  return reinterpret_cast<U*>(p);
}

template <class T>
MAMBASDK_DEVICE Shared<T> shared_memory(unsigned offset) {
  extern __shared__ __align__(128) unsigned char mambasdk_shared_memory[];
  return reinterpret_cast<T*>(mambasdk_shared_memory + offset);
}

template <class T>
MAMBASDK_DEVICE std::remove_const_t<T> load(T* p) {
  return *p;
}
template <class T>
MAMBASDK_DEVICE void store(T* p, std::type_identity_t<T> x) {
  *p = x;
}
template <int n, class T>
MAMBASDK_DEVICE Vector<std::remove_const_t<T>, n> load_vector(T* p) {
  static_assert(sizeof(T) * n <= 16);
  return *reinterpret_cast<const Vector<std::remove_const_t<T>, n>*>(p);
}
template <int n, class T>
MAMBASDK_DEVICE void store_vector(T* p, const Vector<T, n>& x) {
  static_assert(sizeof(T) * n <= 16);
  *reinterpret_cast<Vector<T, n>*>(p) = x;
}
MAMBASDK_DEVICE void add(Global<float> p, float x) {
  asm volatile("red.relaxed.gpu.global.add.f32 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "f"(x) : "memory");
}

MAMBASDK_DEVICE Dim thread_index() {
  return {threadIdx.x, threadIdx.y, threadIdx.z};
}
MAMBASDK_DEVICE Dim block_index() {
  return {blockIdx.x, blockIdx.y, blockIdx.z};
}
MAMBASDK_DEVICE Dim block_size() {
  return {blockDim.x, blockDim.y, blockDim.z};
}
MAMBASDK_DEVICE Dim grid_size() {
  return {gridDim.x, gridDim.y, gridDim.z};
}

MAMBASDK_DEVICE void barrier() {
  __syncthreads();
}
MAMBASDK_DEVICE void warp_barrier(std::uint32_t mask) {
  __syncwarp(mask);
}
template <class T>
MAMBASDK_DEVICE T shuffle(std::uint32_t mask, T x, unsigned lane) {
  static_assert(sizeof(T) == 4);
  return __shfl_sync(mask, x, static_cast<int>(lane));
}
template <class T>
MAMBASDK_DEVICE T shuffle_xor(std::uint32_t mask, T x, unsigned lanes) {
  static_assert(sizeof(T) == 4);
  return __shfl_xor_sync(mask, x, static_cast<int>(lanes));
}
MAMBASDK_DEVICE std::uint32_t ballot(std::uint32_t mask, bool flag) {
  return __ballot_sync(mask, flag);
}

template <class T>
MAMBASDK_DEVICE unsigned shared_address(T* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

template <int bytes, class T, class F>
MAMBASDK_DEVICE void copy_async(Shared<T> to, Global<F> from) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16);
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)),
                 "l"(__cvta_generic_to_global(from))
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared_address(to)),
                 "l"(__cvta_generic_to_global(from)), "n"(bytes)
                 : "memory");
  }
}
MAMBASDK_DEVICE void copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int n>
MAMBASDK_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

template <int n, class T>
MAMBASDK_DEVICE Matrices<n> load_matrix(Shared<T> row) {
  static_assert(n == 1 || n == 2 || n == 4);
  Matrices<n> m;
  if constexpr (n == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(m.bits[0])
                 : "r"(shared_address(row))
                 : "memory");
  } else if constexpr (n == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(m.bits[0]), "=r"(m.bits[1])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.bits[0]), "=r"(m.bits[1]), "=r"(m.bits[2]), "=r"(m.bits[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
  return m;
}
template <int n, class T>
MAMBASDK_DEVICE Matrices<n> load_matrix_transposed(Shared<T> row) {
  static_assert(n == 1 || n == 2 || n == 4);
  Matrices<n> m;
  if constexpr (n == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(m.bits[0])
                 : "r"(shared_address(row))
                 : "memory");
  } else if constexpr (n == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(m.bits[0]), "=r"(m.bits[1])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.bits[0]), "=r"(m.bits[1]), "=r"(m.bits[2]), "=r"(m.bits[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
  return m;
}

template <class T>
MAMBASDK_DEVICE FragmentC multiply_add(const FragmentA<T>& a, const FragmentB<T>& b, const FragmentC& c) {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>);
  FragmentC d;
  if constexpr (std::is_same_v<T, bf16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%10, %11, %12, %13};"
        : "=f"(d.value[0]), "=f"(d.value[1]), "=f"(d.value[2]), "=f"(d.value[3])
        : "r"(a.bits[0]), "r"(a.bits[1]), "r"(a.bits[2]), "r"(a.bits[3]), "r"(b.bits[0]), "r"(b.bits[1]),
          "f"(c.value[0]), "f"(c.value[1]), "f"(c.value[2]), "f"(c.value[3]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%10, %11, %12, %13};"
        : "=f"(d.value[0]), "=f"(d.value[1]), "=f"(d.value[2]), "=f"(d.value[3])
        : "r"(a.bits[0]), "r"(a.bits[1]), "r"(a.bits[2]), "r"(a.bits[3]), "r"(b.bits[0]), "r"(b.bits[1]),
          "f"(c.value[0]), "f"(c.value[1]), "f"(c.value[2]), "f"(c.value[3]));
  }
  return d;
}

MAMBASDK_DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
MAMBASDK_DEVICE float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

MAMBASDK_DEVICE float widen(float x) {
  return x;
}
MAMBASDK_DEVICE float widen(bf16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
MAMBASDK_DEVICE float widen(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
template <class T>
MAMBASDK_DEVICE T narrow(float x) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, bf16> || std::is_same_v<T, f16>);
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    T y;
    if constexpr (std::is_same_v<T, bf16>) {
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    } else {
      asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    }
    return y;
  }
}

}  // namespace mambasdk::cuda
