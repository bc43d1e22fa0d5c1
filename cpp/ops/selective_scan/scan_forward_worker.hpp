// A range of work items of the forward scan: stages tiles of steps, scans them, and finishes their outputs. For
// *.isa.cpp only.
#pragma once

#include "ops/selective_scan/scan_forward_plan.hpp"
#include "ops/selective_scan/scan_forward_states.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

template <class T>
class Forward {
 public:
  Forward(const SelectiveScanArgs& args, const Plan& plan, float* sums, char* scratch)
      : a_(args), plan_(plan), sums_(sums) {
    const auto take = [&](Index floats) {
      float* p = reinterpret_cast<float*>(scratch);
      scratch += floats * static_cast<Index>(sizeof(float));
      return p;
    };
    A_ = take(plan.channels.task_blocks * plan.block_floats * args.routes);
    largest_ = take(plan.channels.task_blocks * kLanes * args.routes);
    state_ = take(plan.channels.task_blocks * plan.block_floats);
    dt_ = take(kTile * kLanes);
    dx_ = take(kTile * kLanes);
    y_ = take(kTile * kLanes);
    B_ = take(kTile * args.states);
    C_ = take(kTile * args.states);
    position_ = reinterpret_cast<Index*>(scratch);
    row_ = position_ + kTile;
    next_position_ = row_ + kTile;
    next_row_ = next_position_ + kTile;
    iota_ = next_row_ + kTile;
    for (Index i = 0; i < kTile; ++i) iota_[i] = i;
    segments_ = reinterpret_cast<Segment*>(iota_ + kTile);
  }

  // Items run in order up to `end`.
  void run(Index item, Index end) {
    next_item_ = item + 1 < end ? item + 1 : -1;
    const Index part = item % plan_.parts, task = item / plan_.parts / a_.batch;
    batch_ = item / plan_.parts % a_.batch;
    first_state_ = a_.states * part / plan_.parts;
    end_state_ = a_.states * (part + 1) / plan_.parts;
    part_ = part;
    if (task != loaded_task_) load_A(task);
    if (a_.y.data != nullptr && !plan_.direct) clear_sums();
    for (Index k = 0; k < a_.routes; ++k) run_route(k);
    if (a_.y.data != nullptr && !plan_.direct) finish_sums();
  }

  // y of tile `index` of `batch` from the sums over the parts' states.
  void combine(Index batch, Index index) {
    batch_ = batch;
    k_ = 0;
    const Index t0 = index * kTile;
    rows_ = lesser(kTile, a_.steps - t0);
    load_order(a_, 0, t0, rows_, position_, row_);
    for (Index i = 0; i < plan_.channels.tasks; ++i) {
      task_ = Task::make(plan_.channels, i);
      for (Index block = 0; block < task_.blocks; ++block) {
        const Index channel = task_.channel(block);
        const int n = task_.lanes(block);
        for (Index row = 0; row < rows_; ++row) {
          vf sum = zero();
          for (Index part = 0; part < plan_.parts; ++part) {
            sum = sum + load_n(static_cast<const float*>(part_row(part, t0 + row, channel)), n);
          }
          store(y_ + row * kLanes, sum);
        }
        finish_tile(channel, n);
      }
    }
  }

 private:
  float* part_row(Index part, Index step, Index channel) const {
    return sums_ + ((part * a_.batch + batch_) * a_.steps + step) * a_.channels + channel;
  }

  void load_A(Index task) {
    loaded_task_ = task;
    task_ = Task::make(plan_.channels, task);
    for (Index k = 0; k < a_.routes; ++k) {
      for (Index block = 0; block < task_.blocks; ++block) {
        const float* A = input<float>(a_.A) + k * a_.A.stride[0] + task_.channel(block) * a_.A.stride[1];
        load_states(A_of(k, block), A, a_.A.stride[1], a_.A.stride[2], a_.states, task_.lanes(block), kLog2e);
        store(largest_of(k, block), largest_magnitude(A_of(k, block), a_.states));
      }
    }
  }
  float* largest_of(Index k, Index block) { return largest_ + (k * plan_.channels.task_blocks + block) * kLanes; }
  float* A_of(Index k, Index block) { return A_ + (k * plan_.channels.task_blocks + block) * plan_.block_floats; }

  void run_route(Index k) {
    k_ = k;
    const Sequences sequences{&a_, batch_};
    for (Index block = 0; block < task_.blocks; ++block) {
      float* h = state_ + block * plan_.block_floats;
      for (Index i = 0; i < plan_.block_floats; i += kLanes) store(h + i, zero());
      if (a_.final_state.data == nullptr) continue;
      for (Index s = sequences.first(); s < sequences.last(); ++s) {  // empty sequences pass their state through
        if (sequences.begin(s) < sequences.end(s)) continue;
        load_initial(s, block, h);
        store_final(s, block, h);
        for (Index i = 0; i < plan_.block_floats; i += kLanes) store(h + i, zero());
      }
    }
    for (Index t0 = 0; t0 < a_.steps; t0 += kTile) {
      rows_ = lesser(kTile, a_.steps - t0);
      load_order(a_, k, t0, rows_, position_, row_);
      find_next(t0);
      segment_count_ = sequences.segments(t0, t0 + rows_, segments_);
      const T* B = input<T>(a_.B) + batch_ * a_.B.stride[0] + k * a_.B.stride[1] + task_.group * a_.B.stride[3];
      load_projection(B_, B, a_.B.stride[2], a_.B.stride[4], row_, rows_, a_.states);
      const T* C = input<T>(a_.C) + batch_ * a_.C.stride[0] + k * a_.C.stride[1] + task_.group * a_.C.stride[3];
      load_projection(C_, C, a_.C.stride[2], a_.C.stride[4], row_, rows_, a_.states);
      for (Index block = 0; block < task_.blocks; ++block) run_tile(t0, block);
    }
  }

  // The tile after this one: of this route, the next route or the next item.
  void find_next(Index t0) {
    next_ = {t0 + kTile, k_, batch_, task_.first_channel, true};
    if (next_.t0 >= a_.steps) {
      next_.t0 = 0;
      if (++next_.route == a_.routes) {
        next_.exists = next_item_ >= 0;
        if (!next_.exists) return;
        next_.route = 0;
        next_.batch = next_item_ / plan_.parts % a_.batch;
        next_.channel = Task::make(plan_.channels, next_item_ / plan_.parts / a_.batch).first_channel;
      }
    }
    load_order_padded(a_, next_.route, next_.t0, lesser(kTile, a_.steps - next_.t0), kTile, next_position_, next_row_);
  }
  // What to prefetch during the scan of a block: the inputs of the block after it, the rows that it will write.
  Ahead ahead_of(Index block) const {
    Ahead ahead = Ahead::nothing(iota_);
    const Index channel = task_.channel(block);
    if (block + 1 < task_.blocks) {
      ahead_inputs(ahead, batch_, k_, channel + kLanes, position_, row_);
    } else if (next_.exists) {
      ahead_inputs(ahead, next_.batch, next_.route, next_.channel, next_position_, next_row_);
    }
    if (a_.y.data != nullptr && plan_.parts == 1) {
      if (plan_.direct) {
        ahead.set(2, at<T>(a_.y, channel), a_.y.stride[1], position_);
      } else {
        const float* sums = sum_row(0, channel);
        ahead.set(2, sums, sum_row(1, channel) - sums, position_);
      }
      if (a_.z.data != nullptr && plan_.direct && !a_.wide_z())
        ahead.set(3, at<T>(a_.z, channel), a_.z.stride[1], position_);
    }
    return ahead;
  }
  void ahead_inputs(Ahead& ahead, Index batch, Index route, Index channel, const Index* position,
                    const Index* row) const {
    ahead.set(0, input<T>(a_.u) + batch * a_.u.stride[0] + channel * a_.u.stride[2], a_.u.stride[1], position);
    if (a_.wide_delta()) return;
    ahead.set(
        1, input<T>(a_.delta) + batch * a_.delta.stride[0] + route * a_.delta.stride[1] + channel * a_.delta.stride[3],
        a_.delta.stride[2], row);
  }

  void run_tile(Index t0, Index block) {
    const Index channel = task_.channel(block);
    const int n = task_.lanes(block);
    float* h = state_ + block * plan_.block_floats;
    const float* A = A_of(k_, block);
    if (a_.chunk_states.data != nullptr && t0 % kScanChunk == 0) {
      const StridedView& v = a_.chunk_states;
      store_states(output<float>(v) + batch_ * v.stride[0] + k_ * v.stride[1] + t0 / kScanChunk * v.stride[2] +
                       channel * v.stride[3] + first_state_ * v.stride[4],
                   v.stride[3], v.stride[4], h + first_state_ * kLanes, end_state_ - first_state_, n);
    }
    const Reach reach = reach_of(stage(channel, n), load(largest_of(k_, block)));
    const Ahead ahead = ahead_of(block);
    for (Index i = 0; i < segment_count_; ++i) {
      const Segment& g = segments_[i];
      if (g.starts) load_initial(g.sequence, block, h);
      run_segment(g, reach, A, h, ahead);
      if (g.ends && a_.final_state.data != nullptr) store_final(g.sequence, block, h);
    }
    if (a_.y.data == nullptr) return;
    if (plan_.parts > 1) {
      for (Index i = 0; i < rows_; ++i) store_n(part_row(part_, t0 + i, channel), load(y_ + i * kLanes), n);
    } else {
      finish_tile(channel, n);
    }
  }
  // Adds D u to y of a tile and stores it, gated, or adds it to the sums over visits.
  void finish_tile(Index channel, int n) {
    if (a_.D.data != nullptr) {
      const vf skip = per_channel(a_.D, channel, n);
      const Rows<T> u{at<T>(a_.u, channel), a_.u.stride[1], position_};
      if (is_plain(a_.u.stride[2], n)) {
        add_skip(skip, u);
      } else {
        load_rows(dt_, u.base, u.stride, a_.u.stride[2], position_, rows_, n);
        add_skip(skip, Rows<float>{dt_, kLanes, iota_});
      }
    }
    if (plan_.direct) {
      store_tile(channel, n);
    } else {
      add_tile(channel, n);
    }
  }

  static bool is_plain(Index lane_stride, int n) { return lane_stride == 1 && n == kLanes; }

  // Fills dt_ (with bias and softplus) and dx_ = dt u; returns the bits of the largest |dt| per lane.
  vi stage(Index channel, int n) {
    const vf bias = a_.delta_bias.data != nullptr ? per_channel(a_.delta_bias, channel, n) : zero();
    const Rows<T> u{at<T>(a_.u, channel), a_.u.stride[1], position_};
    const Rows<T> delta{
        input<T>(a_.delta) + batch_ * a_.delta.stride[0] + k_ * a_.delta.stride[1] + channel * a_.delta.stride[3],
        a_.delta.stride[2], row_};
    if (is_plain(a_.u.stride[2], n) && is_plain(a_.delta.stride[3], n) && !a_.wide_delta()) {
      return a_.delta_softplus ? stage_rows<true>(u, delta, bias) : stage_rows<false>(u, delta, bias);
    }
    load_rows(dx_, u.base, u.stride, a_.u.stride[2], position_, rows_, n);
    if (a_.wide_delta()) {
      const float* base =
          input<float>(a_.delta) + batch_ * a_.delta.stride[0] + k_ * a_.delta.stride[1] + channel * a_.delta.stride[3];
      load_rows(dt_, base, a_.delta.stride[2], a_.delta.stride[3], row_, rows_, n);
    } else {
      load_rows(dt_, delta.base, delta.stride, a_.delta.stride[3], row_, rows_, n);
    }
    const Rows<float> u_tile{dx_, kLanes, iota_}, delta_tile{dt_, kLanes, iota_};
    return a_.delta_softplus ? stage_rows<true>(u_tile, delta_tile, bias) : stage_rows<false>(u_tile, delta_tile, bias);
  }
  template <bool kSoftplus, class X>
  vi stage_rows(Rows<X> u, Rows<X> delta, vf bias) {
    vi largest = vi{};
    for (Index i = 0; i < rows_; ++i) {
      vf d = load(delta(i)) + bias;
      if constexpr (kSoftplus) d = softplus(d);
      const vf x = load(u(i));
      largest = larger_bits(largest, d);
      store(dt_ + i * kLanes, d);
      store(dx_ + i * kLanes, d * x);
    }
    return largest;
  }
  template <class X>
  void add_skip(vf skip, Rows<X> u) {
    for (Index i = 0; i < rows_; ++i) store(y_ + i * kLanes, load(y_ + i * kLanes) + skip * load(u(i)));
  }

  void run_segment(const Segment& g, Reach reach, const float* A, float* h, const Ahead& ahead) {
    using Fast = std::conditional_t<sizeof(T) == 4, FloatExp2, HalfExp2>;
    const Index steps = g.end - g.begin;
    const float *dt = dt_ + g.begin * kLanes, *dx = dx_ + g.begin * kLanes;
    const Index begin = g.begin * a_.states + first_state_, count = end_state_ - first_state_;
    const float *B = B_ + begin, *C = C_ + begin;
    A += first_state_ * kLanes;
    h += first_state_ * kLanes;
    float* y = y_ + g.begin * kLanes;
    const auto run = [&](auto* with_output, auto* without) {
      auto* scan = a_.y.data != nullptr ? with_output : without;
      scan(count, a_.states, steps, dt, dx, B, C, A, h, y, ahead, g.begin);
    };
    if (reach == Reach::fast) {
      run(&scan_block<Fast, true>, &scan_block<Fast, false>);
    } else if (reach == Reach::clamped) {
      run(&scan_block<ClampedExp2<Fast>, true>, &scan_block<ClampedExp2<Fast>, false>);
    } else {
      run(&scan_block<ForgettingExp2<Fast>, true>, &scan_block<ForgettingExp2<Fast>, false>);
    }
  }

  template <class X>
  X* at(const StridedView& v, Index channel) const {  // (b, :, channel) of a [B,L,D] tensor
    return static_cast<X*>(v.data) + batch_ * v.stride[0] + channel * v.stride[2];
  }
  vf per_channel(const StridedView& v, Index channel, int n) const {  // acc[K,D]
    return load_lanes(input<float>(v) + k_ * v.stride[0] + channel * v.stride[1], v.stride[1], n);
  }
  // The part's first state in an acc[S,K,D,N] tensor.
  float* state_at(const StridedView& v, Index sequence, Index block) const {
    return output<float>(v) + sequence * v.stride[0] + k_ * v.stride[1] + task_.channel(block) * v.stride[2] +
           first_state_ * v.stride[3];
  }
  void load_initial(Index sequence, Index block, float* h) {
    const StridedView& v = a_.initial_state;
    if (v.data != nullptr) {
      load_states(h + first_state_ * kLanes, state_at(v, sequence, block), v.stride[2], v.stride[3],
                  end_state_ - first_state_, task_.lanes(block), 1.0f);
    } else {
      for (Index i = 0; i < plan_.block_floats; i += kLanes) store(h + i, zero());
    }
  }
  void store_final(Index sequence, Index block, const float* h) {
    const StridedView& v = a_.final_state;
    store_states(state_at(v, sequence, block), v.stride[2], v.stride[3], h + first_state_ * kLanes,
                 end_state_ - first_state_, task_.lanes(block));
  }

  // y of a tile, gated.
  void store_tile(Index channel, int n) {
    if (a_.z.data != nullptr) {
      const Rows<T> z{at<T>(a_.z, channel), a_.z.stride[1], position_};
      if (a_.wide_z()) {
        load_rows(dt_, at<float>(a_.z, channel), a_.z.stride[1], a_.z.stride[2], position_, rows_, n);
        gate(Rows<float>{dt_, kLanes, iota_});
      } else if (is_plain(a_.z.stride[2], n)) {
        gate(z);
      } else {
        load_rows(dt_, z.base, z.stride, a_.z.stride[2], position_, rows_, n);
        gate(Rows<float>{dt_, kLanes, iota_});
      }
    }
    T* y = at<T>(a_.y, channel);
    if (n == kLanes) {
      for (Index i = 0; i < rows_; ++i) store(y + position_[i] * a_.y.stride[1], load(y_ + i * kLanes));
      return;
    }
    for (Index i = 0; i < rows_; ++i) store_n(y + position_[i] * a_.y.stride[1], load(y_ + i * kLanes), n);
  }
  template <class X>
  void gate(Rows<X> z) {
    for (Index i = 0; i < rows_; ++i) {
      store(y_ + i * kLanes, load(y_ + i * kLanes) * silu(load(z(i))));
    }
  }

  // Routed: sums over visits in float32, in y itself where T is float.
  float* sum_row(Index position, Index channel) const {
    if constexpr (sizeof(T) == 4) {
      return at<float>(a_.y, channel) + position * a_.y.stride[1];
    } else {
      return sums_ + (batch_ * a_.length + position) * a_.channels + channel;
    }
  }
  void clear_sums() {
    for (Index position = 0; position < a_.length; ++position) {
      for (Index block = 0; block < task_.blocks; ++block) {
        store_n(sum_row(position, task_.channel(block)), zero(), task_.lanes(block));
      }
    }
  }
  void add_tile(Index channel, int n) {
    for (Index i = 0; i < rows_; ++i) {
      float* sum = sum_row(position_[i], channel);
      store_n(sum, load_n(static_cast<const float*>(sum), n) + load(y_ + i * kLanes), n);
    }
  }
  void finish_sums() {
    if (sizeof(T) == 4 && a_.z.data == nullptr) return;
    for (Index p0 = 0; p0 < a_.length; p0 += kTile) {
      rows_ = lesser(kTile, a_.length - p0);
      for (Index i = 0; i < rows_; ++i) position_[i] = p0 + i;
      for (Index block = 0; block < task_.blocks; ++block) {
        const Index channel = task_.channel(block);
        const int n = task_.lanes(block);
        for (Index i = 0; i < rows_; ++i) {
          store(y_ + i * kLanes, load_n(static_cast<const float*>(sum_row(p0 + i, channel)), n));
        }
        store_tile(channel, n);
      }
    }
  }

  const SelectiveScanArgs& a_;
  const Plan& plan_;
  float* sums_;
  float *A_, *largest_, *state_, *dt_, *dx_, *y_, *B_, *C_;
  Index *position_, *row_, *next_position_, *next_row_, *iota_;
  Segment* segments_;
  struct Next {
    Index t0, route, batch, channel;
    bool exists;
  } next_{};
  Index part_ = 0, first_state_ = 0, end_state_ = 0;
  Index next_item_ = -1, loaded_task_ = -1, batch_ = 0, k_ = 0, rows_ = 0, segment_count_ = 0;
  Task task_{};
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
