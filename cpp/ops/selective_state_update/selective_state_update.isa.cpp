// One step of the selective scan: states in vector lanes, as they lie in memory; sums over states for kLanes channels
// at a time.
#include "ops/selective_scan/scan_tile.hpp"
#include "ops/selective_state_update/update_args.hpp"
#include "ops/vector_sums.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace selective_state_update;

// n elements of any stride as float32; the rest reads as 0.
template <class T>
MAMBASDK_SIMD vf load_strided(const T* p, Index stride, int n) {
  if (stride == 1) return load_n(p, n);
  alignas(64) float buffer[kLanes] = {};
  for (int i = 0; i < n; ++i) buffer[i] = to_float(p[i * stride]);
  return load(static_cast<const float*>(buffer));
}

// S: of the state.
template <class T, class S>
class Update {
 public:
  explicit Update(const UpdateArgs& args) : a_(args) {}

  // Channels [first, first + n) of one batch row; all in one group.
  void run(Index b, Index group, Index first, int n) const {
    const auto channels = [&](const StridedView& v, bool wide = false) {
      const Index at = b * v.stride[0] + first * v.stride[1];
      return wide ? load_strided(input<float>(v) + at, v.stride[1], n) : load_strided(input<T>(v) + at, v.stride[1], n);
    };
    const Index slot = a_.slots != nullptr ? a_.slots[b] : b;
    if (slot < 0) return store_n(output<T>(a_.y) + b * a_.channels + first, zero(), n);
    const auto parameter = [&](const StridedView& v) {
      return load_strided(input<float>(v) + first * v.stride[0], v.stride[0], n);
    };
    const vf x = channels(a_.x);
    vf dt = channels(a_.delta, a_.wide_delta);
    if (a_.delta_bias.data != nullptr) dt = dt + parameter(a_.delta_bias);
    if (a_.delta_softplus) dt = softplus(dt);
    alignas(64) float log2_step[kLanes], input_step[kLanes], sums[kLanes * kLanes];
    store(log2_step, dt * kLog2e);
    store(input_step, dt * x);
    for (int c = n; c < kLanes; ++c) store(sums + c * kLanes, zero());
    const Index N = a_.states;
    const Exp exp2_of = Exp::make();
    const T* B = input<T>(a_.B) + b * a_.B.stride[0] + group * a_.B.stride[1];
    const T* C = input<T>(a_.C) + b * a_.C.stride[0] + group * a_.C.stride[1];
    for (Index s = 0; s < N; s += kLanes) {
      const int width = static_cast<int>(lesser(kLanes, N - s));
      const vf B_s = load_strided(B + s * a_.B.stride[2], a_.B.stride[2], width);
      const vf C_s = load_strided(C + s * a_.C.stride[2], a_.C.stride[2], width);
      for (int c = 0; c < n; ++c) {
        const Index d = first + c;
        const vf A = load_strided(input<float>(a_.A) + d * a_.A.stride[0] + s * a_.A.stride[1], a_.A.stride[1], width);
        const StridedView& v = a_.state;
        vf h = load_strided(input<S>(v) + slot * v.stride[0] + d * v.stride[1] + s * v.stride[2], v.stride[2], width);
        const vf z = A * log2_step[c];
        h = exp2_of(z) * unless_forgotten(z, h) + B_s * input_step[c];
        store_n(output<S>(a_.new_state) + (slot * a_.channels + d) * N + s, h, width);
        const vf product = h * C_s;
        store(sums + c * kLanes, s == 0 ? product : load(static_cast<const float*>(sums) + c * kLanes) + product);
      }
    }
    vf y = N > 0 ? reduce_rows(sums) : zero();
    if (a_.D.data != nullptr) y = y + parameter(a_.D) * x;
    if (a_.z.data != nullptr) y = y * silu(channels(a_.z, a_.wide_z));
    store_n(output<T>(a_.y) + b * a_.channels + first, y, n);
  }

 private:
  using Exp = ClampedExp2<std::conditional_t<sizeof(T) == 4, FloatExp2, HalfExp2>>;
  const UpdateArgs& a_;
};

template <class T, class S>
void update(const UpdateArgs& a, Parallel parallel) {
  const Index group_channels = a.groups > 0 ? a.channels / a.groups : 0;
  const Index group_blocks = ceil_div(group_channels, kLanes);
  const Index blocks = group_blocks * a.groups;
  const Index grain = greater(1, (Index{1} << 16) / greater(1, kLanes * (a.states + 8)));
  const Update<T, S> kernel(a);
  parallel(a.batch * blocks, grain, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index b = i / blocks, group = i % blocks / group_blocks, block = i % group_blocks;
      const Index first = group * group_channels + block * kLanes;
      kernel.run(b, group, first, static_cast<int>(lesser(kLanes, (group + 1) * group_channels - first)));
    }
  });
}

}  // namespace

void selective_state_update(const selective_state_update::UpdateArgs& args, Parallel parallel) {
  MAMBASDK_SHARE_AVX512(args.type == dtype::bf16 || args.state_type == dtype::bf16,
                        selective_state_update(args, parallel));
  with_type(args.type, [&]<class T>(T) {
    with_type(args.state_type, [&]<class S>(S) {
      if constexpr (is_own<T, S>) update<T, S>(args, parallel);
    });
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
