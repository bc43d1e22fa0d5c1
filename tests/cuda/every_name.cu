// Every name of cuda/device.hpp that becomes an instruction of its own, for test_every_name.py.
#include "cuda/device.hpp"

namespace mambasdk::cuda {

template <class T>
MAMBASDK_KERNEL(64, 1)
every_name(Global<const T> in, Global<T> out, Global<float> sums) {
  const int thread = static_cast<int>(thread_index().x + block_size().x * (block_index().x + grid_size().x * 2));
  const Shared<T> tile = shared_memory<T>(0);
  copy_async<16>(tile + 8 * thread, in + 8 * thread);
  copy_async<8>(tile + 1024 + 4 * thread, in + 4 * thread);
  copy_async<4>(tile + 2048 + 2 * thread, in + 2 * thread);
  copy_commit();
  copy_wait<1>();
  copy_wait<0>();
  barrier();
  const Matrices<4> a = load_matrix<4>(tile + 8 * thread);
  const Matrices<2> b = load_matrix_transposed<2>(tile + 8 * thread);
  const Matrices<1> one = load_matrix<1>(tile + 8 * thread);
  const Matrices<2> two = load_matrix<2>(tile + 8 * thread);
  const Matrices<1> one_t = load_matrix_transposed<1>(tile + 8 * thread);
  const Matrices<4> four_t = load_matrix_transposed<4>(tile + 8 * thread);
  const FragmentA<T> left{{a.bits[0] ^ one.bits[0], a.bits[1] ^ two.bits[0], a.bits[2] ^ two.bits[1], a.bits[3]}};
  const FragmentB<T> right{{b.bits[0] ^ one_t.bits[0], b.bits[1] ^ four_t.bits[3]}};
  FragmentC c = multiply_add(left, right, FragmentC{});
  warp_barrier(kWholeWarp);
  c.value[0] += warp_sum(kWholeWarp, c.value[1]) + shuffle(kWholeWarp, c.value[2], 3);
  c.value[1] += static_cast<float>(ballot(kWholeWarp, c.value[0] > 0.0f));
  add(sums + thread, exp2_approx(c.value[0]) + reciprocal_approx(c.value[1]) + widen(load(in + thread)));
  store(out + thread, narrow<T>(c.value[3]));
  store_vector<8>(out + 8 * thread, load_vector<8>(in + 8 * thread));
}

template MAMBASDK_KERNEL(64, 1) every_name<bf16>(Global<const bf16>, Global<bf16>, Global<float>);
template MAMBASDK_KERNEL(64, 1) every_name<f16>(Global<const f16>, Global<f16>, Global<float>);

}  // namespace mambasdk::cuda
