// The tiles of a running range of the backward scan: a channel block of a chunk is staged in them, and its gradients
// leave from them. For *.isa.cpp only.
#pragma once

#include "ops/selective_scan/scan_backward_sums.hpp"
#include "ops/vector_sums.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// The scratch of a range, and where in the call it works.
template <class T>
class BackwardTiles {
 protected:
  BackwardTiles(const BackwardSums<T>& all, char* scratch, Index k, Index round)
      : all_(all), a_(all.args()), g_(all.grads()), plan_(all.plan()), k_(k), round_(round) {
    const auto take = [&](Index floats) {
      float* p = reinterpret_cast<float*>(scratch);
      scratch += floats * static_cast<Index>(sizeof(float));
      return p;
    };
    const Index blocks = plan_.channels.task_blocks;
    A_ = take(blocks * plan_.block_floats);
    state_ = take(plan_.block_floats);
    tiles_ = take(BackwardPlan::kTiles * plan_.tile_floats);
    decays_ = take(kMostStates * plan_.tile_floats);
    states_ = take(2 * kMostStates * plan_.tile_floats);
    sums_ = take(2 * kScanChunk * a_.states + 2 * kLanes) + kLanes;
    B_ = take(kScanChunk * a_.states);
    C_ = take(kScanChunk * a_.states);
    position_ = reinterpret_cast<Index*>(scratch);
    row_ = position_ + kScanChunk;
    next_position_ = row_ + kScanChunk;
    next_row_ = next_position_ + kScanChunk;
    iota_ = next_row_ + kScanChunk;
    for (Index i = 0; i < kScanChunk; ++i) iota_[i] = i;
    segments_ = reinterpret_cast<Segment*>(iota_ + kScanChunk);
  }

  enum Tile { kDt, kDx, kU, kDy, kGradDt, kGradDx, kY, kGate, kSlope };
  static constexpr Tile kPartTile[] = {kGradDt, kGradDx, kY};
  float* tile(Tile which) const {
    if (leaves_parts_) {
      for (int i = 0; i < BackwardPlan::kPartTiles; ++i) {
        if (which == kPartTile[i]) return all_.part_tile(part_, batch_, task_index_, chunk_, i);
      }
    }
    return tiles_ + which * plan_.tile_floats;
  }
  float* A_of(Index block) const { return A_ + block * plan_.block_floats; }
  float* channel_sum(Index offset, Index block) const {
    return all_.block_sum(offset, batch_group_, task_index_, block, kLanes);
  }
  template <class X>
  X* at(const StridedView& v, Index channel) const {  // (b, :, channel) of a [B,L,D] tensor
    return static_cast<X*>(v.data) + batch_ * v.stride[0] + channel * v.stride[2];
  }
  vf per_channel(const StridedView& v, Index channel, int n) const {  // acc[K,D]
    return load_lanes(input<float>(v) + k_ * v.stride[0] + channel * v.stride[1], v.stride[1], n);
  }
  // Tiles and start states of a channel block; returns which exp2 it needs.
  Reach load_block(Index block) {
    const Index channel = task_.channel(block);
    const int n = task_.lanes(block);
    const Reach reach = reach_of(stage(channel, n), largest_magnitude(A_of(block), a_.states));
    if (a_.z.data != nullptr) stage_gate(channel, n);
    if (t0_ == 0) {  // a sequence starts here
      clear_floats(state_, plan_.block_floats);
      return reach;
    }
    const StridedView& v = a_.chunk_states;
    load_states(state_,
                input<float>(v) + batch_ * v.stride[0] + k_ * v.stride[1] + t0_ / kScanChunk * v.stride[2] +
                    channel * v.stride[3],
                v.stride[3], v.stride[4], a_.states, n, 1.0f);
    return reach;
  }

  bool is_plain(int n) const {
    return n == kLanes && a_.u.stride[2] == 1 && a_.delta.stride[3] == 1 && g_.grad_y.stride[2] == 1 &&
           !a_.wide_delta();
  }
  Rows<T> u_rows(Index channel) const { return {at<T>(a_.u, channel), a_.u.stride[1], position_}; }
  Rows<float> tile_rows(Tile which) const { return {tile(which), kLanes, iota_}; }

  // Fills dt (with bias and softplus), dx = dt u, dy and, with softplus, its slope; u too where it had to be moved.
  vi stage(Index channel, int n) {
    const vf bias = a_.delta_bias.data != nullptr ? per_channel(a_.delta_bias, channel, n) : zero();
    const Rows<T> u = u_rows(channel), dy{at<T>(g_.grad_y, channel), g_.grad_y.stride[1], position_};
    const Rows<T> delta{
        input<T>(a_.delta) + batch_ * a_.delta.stride[0] + k_ * a_.delta.stride[1] + channel * a_.delta.stride[3],
        a_.delta.stride[2], row_};
    if (is_plain(n)) {
      return a_.delta_softplus ? stage_rows<true>(u, delta, dy, bias) : stage_rows<false>(u, delta, dy, bias);
    }
    load_rows(tile(kU), u.base, u.stride, a_.u.stride[2], position_, rows_, n);
    if (a_.wide_delta()) {
      const float* base =
          input<float>(a_.delta) + batch_ * a_.delta.stride[0] + k_ * a_.delta.stride[1] + channel * a_.delta.stride[3];
      load_rows(tile(kDt), base, a_.delta.stride[2], a_.delta.stride[3], row_, rows_, n);
    } else {
      load_rows(tile(kDt), delta.base, delta.stride, a_.delta.stride[3], row_, rows_, n);
    }
    load_rows(tile(kDy), dy.base, dy.stride, g_.grad_y.stride[2], position_, rows_, n);
    const Rows<float> u_tile = tile_rows(kU), delta_tile = tile_rows(kDt), dy_tile = tile_rows(kDy);
    return a_.delta_softplus ? stage_rows<true>(u_tile, delta_tile, dy_tile, bias)
                             : stage_rows<false>(u_tile, delta_tile, dy_tile, bias);
  }
  template <bool kSoftplus, class X>
  vi stage_rows(Rows<X> u, Rows<X> delta, Rows<X> dy, vf bias) {
    float *to_dt = tile(kDt), *to_dx = tile(kDx), *to_dy = tile(kDy);
    float* to_slope = tile(kSlope);
    vi largest = vi{};
    for (Index i = 0; i < rows_; ++i) {
      vf d = load(delta(i)) + bias;
      if constexpr (kSoftplus) {
        vf slope;
        d = softplus(d, slope);
        store(to_slope + i * kLanes, slope);
      }
      const vf x = load(u(i)), g = load(dy(i));
      largest = larger_bits(largest, d);
      store(to_dt + i * kLanes, d);
      store(to_dx + i * kLanes, d * x);
      store(to_dy + i * kLanes, g);
    }
    return largest;
  }
  // dy through the gate, what y is to be multiplied by for grad_z, and y's share that passes by the states.
  void stage_gate(Index channel, int n) {
    float *y = tile(kY), *gate = tile(kGate), *dy = tile(kDy), *u = tile(kU);
    const bool skips = a_.D.data != nullptr;
    const vf skip = skips && part_ == 0 ? per_channel(a_.D, channel, n) : zero();
    if (a_.wide_z()) {
      load_rows(gate, at<float>(a_.z, channel), a_.z.stride[1], a_.z.stride[2], position_, rows_, n);
    } else {
      load_rows(gate, at<T>(a_.z, channel), a_.z.stride[1], a_.z.stride[2], position_, rows_, n);
    }
    if (is_plain(n)) load_rows(u, at<T>(a_.u, channel), a_.u.stride[1], a_.u.stride[2], position_, rows_, n);
    for (Index i = 0; i < rows_; ++i) {
      const vf z = load(gate + i * kLanes), g = load(dy + i * kLanes), s = sigmoid(z);
      store(dy + i * kLanes, g * z * s);
      store(gate + i * kLanes, g * s * (1.0f + z * (1.0f - s)));
      store(y + i * kLanes, skips ? skip * load(u + i * kLanes) : zero());
    }
  }

  void store_block(Index block) {
    const Index channel = task_.channel(block);
    const int n = task_.lanes(block);
    if (is_plain(n)) {
      store_gradients(block, channel, n, u_rows(channel));
    } else {
      store_gradients(block, channel, n, tile_rows(kU));
    }
    if (a_.z.data == nullptr) return;
    const float *y = tile(kY), *gate = tile(kGate);
    const Sums<T> sum_z = all_.sums_z();
    T* out_z = at<T>(g_.grad_z, channel);
    float* wide_z = at<float>(g_.grad_z, channel);
    for (Index i = 0; i < rows_; ++i) {
      const vf out = load(y + i * kLanes) * load(gate + i * kLanes);
      if (plan_.routed) {
        add_to(sum_z.row(batch_, position_[i]) + channel, out, n);
      } else if (a_.wide_z()) {
        store_n(wide_z + position_[i] * g_.grad_z.stride[1], out, n);
      } else {
        store_n(out_z + position_[i] * g_.grad_z.stride[1], out, n);
      }
    }
  }
  template <class X>
  void store_gradients(Index block, Index channel, int n, Rows<X> u) {
    const float *dt = tile(kDt), *dy = tile(kDy), *slope = tile(kSlope);
    const float *grad_dt = tile(kGradDt), *grad_dx = tile(kGradDx);
    const bool skips = a_.D.data != nullptr, is_wide = a_.wide_delta();
    const vf skip = skips ? per_channel(a_.D, channel, n) : zero();
    vf grad_skip = zero(), grad_bias = zero();
    const Sums<T> sum_u = all_.sums_u(), sum_delta = all_.sums_delta(k_);
    T* out_u = at<T>(g_.grad_u, channel);
    T* out_delta = all_.params_row(g_.grad_delta, batch_, k_, 0) + channel;
    float* wide_delta = all_.template params_row<float>(g_.grad_delta, batch_, k_, 0) + channel;
    for (Index i = 0; i < rows_; ++i) {
      const vf x = load(u(i)), g = load(dy + i * kLanes), gx = load(grad_dx + i * kLanes);
      vf raw = load(grad_dt + i * kLanes) * kLn2 + gx * x;
      if (a_.delta_softplus) raw = raw * load(slope + i * kLanes);
      grad_bias = grad_bias + raw;
      grad_skip = grad_skip + g * x;
      if (plan_.scatter) {
        add_to(sum_delta.row(batch_, row_[i]) + channel, raw, n);
      } else if (is_wide) {
        store_n(wide_delta + row_[i] * g_.grad_delta.stride[2], raw, n);
      } else {
        store_n(out_delta + row_[i] * g_.grad_delta.stride[2], raw, n);
      }
      vf out = gx * load(dt + i * kLanes);
      if (skips) out = out + skip * g;
      if (plan_.routed) {
        add_to(sum_u.row(batch_, position_[i]) + channel, out, n);
      } else {
        store_n(out_u + position_[i] * g_.grad_u.stride[1], out, n);
      }
    }
    float *sum_skip = channel_sum(plan_.grad_D, block), *sum_bias = channel_sum(plan_.grad_bias, block);
    if (plan_.parts > 1) {
      sum_skip = all_.chunk_sums(batch_, task_index_, chunk_);
      sum_bias = sum_skip + kLanes;
    }
    store(sum_skip, load(sum_skip) + grad_skip);
    store(sum_bias, load(sum_bias) + grad_bias);
  }

  const BackwardSums<T>& all_;
  const SelectiveScanArgs& a_;
  const SelectiveScanGrads& g_;
  const BackwardPlan& plan_;
  Index k_, round_;
  float *A_, *state_, *tiles_, *decays_, *states_, *sums_, *B_, *C_;
  Index *position_, *row_, *next_position_, *next_row_, *iota_;
  Segment* segments_;
  bool leaves_parts_ = false;  // running a part: grad_dt, grad_dx and y go to the workspace
  Index part_ = 0, chunk_ = 0, task_index_ = 0, batch_group_ = 0, batch_ = 0, t0_ = 0, rows_ = 0;
  Task task_{};
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
