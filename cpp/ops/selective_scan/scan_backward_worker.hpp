// A running range of the backward scan. For *.isa.cpp only.
#pragma once

#include "ops/selective_scan/scan_backward_tiles.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// One running range: the walk over batch rows, chunks, state blocks and channel blocks.
template <class T>
class BackwardWorker : BackwardTiles<T> {
 public:
  BackwardWorker(const BackwardSums<T>& all, char* scratch, Index k, Index round)
      : BackwardTiles<T>(all, scratch, k, round) {}

  // Items run in order up to `end`.
  void run(Index item, Index end) {
    next_item_ = item + 1 < end ? item + 1 : -1;
    part_ = item % plan_.parts;
    first_state_ = a_.states * part_ / plan_.parts;
    end_state_ = a_.states * (part_ + 1) / plan_.parts;
    task_index_ = item / plan_.parts / plan_.batch_groups;
    batch_group_ = item / plan_.parts % plan_.batch_groups;
    task_ = Task::make(plan_.channels, task_index_);
    for (Index block = 0; block < task_.blocks; ++block) {
      const StridedView& v = a_.A;
      load_states(A_of(block), input<float>(v) + k_ * v.stride[0] + task_.channel(block) * v.stride[1], v.stride[1],
                  v.stride[2], a_.states, task_.lanes(block), kLog2e);
      if (round_ != plan_.rounds - 1) continue;
      clear_floats(grad_A(block) + first_state_ * kLanes, (end_state_ - first_state_) * kLanes);
      if (part_ > 0) continue;
      clear_floats(channel_sum(plan_.grad_D, block), kLanes);
      clear_floats(channel_sum(plan_.grad_bias, block), kLanes);
    }
    const Index first = a_.batch * batch_group_ / plan_.batch_groups;
    last_batch_ = a_.batch * (batch_group_ + 1) / plan_.batch_groups;
    for (batch_ = first; batch_ < last_batch_; ++batch_) {
      if (round_ == plan_.rounds - 1) pass_empty_sequences();
      const Index from = round_ * plan_.round_steps, to = lesser(from + plan_.round_steps, a_.steps);
      for (Index t0 = (to - 1) / kScanChunk * kScanChunk; t0 >= from && to > 0; t0 -= kScanChunk) {
        run_chunk(t0, lesser(kScanChunk, a_.steps - t0));
      }
    }
  }

  // grad_u, grad_delta and grad_z of a chunk of the round, from what the parts left.
  void combine(Index batch, Index chunk) {
    batch_ = batch_group_ = batch;
    chunk_ = chunk;
    t0_ = round_ * plan_.round_steps + chunk * kScanChunk;
    rows_ = lesser(kScanChunk, a_.steps - t0_);
    load_order(a_, k_, t0_, rows_, position_, row_);
    for (task_index_ = 0; task_index_ < plan_.channels.tasks; ++task_index_) {
      task_ = Task::make(plan_.channels, task_index_);
      const Index channel = task_.channel(0);
      stage(channel, task_.lanes(0));
      if (a_.z.data != nullptr) stage_gate(channel, task_.lanes(0));
      for (int which = 0; which < (a_.z.data != nullptr ? 3 : 2); ++which) {
        float* sum = tiles_ + kPartTile[which] * plan_.tile_floats;
        for (Index i = 0; i < rows_ * kLanes; i += kLanes) {
          vf total = zero();
          for (Index part = 0; part < plan_.parts; ++part) {
            total = total + load(all_.part_tile(part, batch_, task_index_, chunk, which) + i);
          }
          store(sum + i, total);
        }
      }
      clear_floats(all_.chunk_sums(batch_, task_index_, chunk), 2 * kLanes);
      store_block(0);
    }
  }

 private:
  using Base = BackwardTiles<T>;
  using Base::A_of, Base::channel_sum, Base::load_block, Base::stage, Base::stage_gate, Base::store_block, Base::tile;
  using Base::all_, Base::a_, Base::g_, Base::plan_, Base::k_, Base::round_, Base::task_;
  using Base::batch_, Base::batch_group_, Base::chunk_, Base::leaves_parts_, Base::part_, Base::rows_, Base::t0_;
  using Base::decays_, Base::states_, Base::sums_, Base::B_, Base::C_, Base::state_, Base::tiles_, Base::task_index_;
  using Base::iota_, Base::next_position_, Base::next_row_, Base::position_, Base::row_, Base::segments_;
  using Base::kDt, Base::kDx, Base::kDy, Base::kGradDt, Base::kGradDx, Base::kPartTile, Base::kY;

  float* carry(Index block) const {
    return all_.block_sum(plan_.carry, plan_.rounds > 1 ? batch_ : batch_group_, task_index_, block,
                          plan_.block_floats);
  }
  float* grad_A(Index block) const {
    return all_.block_sum(plan_.grad_A, batch_group_, task_index_, block, plan_.block_floats);
  }
  // States [n, n + count) of a block in an acc[S,K,D,N] tensor.
  void load_sequence(const StridedView& v, Index sequence, Index block, Index n, Index count, float* to) const {
    if (v.data == nullptr) return clear_floats(to, count * kLanes);
    load_states(to,
                input<float>(v) + sequence * v.stride[0] + k_ * v.stride[1] + task_.channel(block) * v.stride[2] +
                    n * v.stride[3],
                v.stride[2], v.stride[3], count, task_.lanes(block), 1.0f);
  }
  void store_sequence(const StridedView& v, Index sequence, Index block, Index n, Index count,
                      const float* from) const {
    if (v.data == nullptr) return;
    store_states(output<float>(v) + sequence * v.stride[0] + k_ * v.stride[1] + task_.channel(block) * v.stride[2] +
                     n * v.stride[3],
                 v.stride[2], v.stride[3], from, count, task_.lanes(block));
  }
  void pass_empty_sequences() {
    if (g_.grad_initial_state.data == nullptr) return;
    const Sequences sequences{&a_, batch_};
    for (Index s = sequences.first(); s < sequences.last(); ++s) {
      if (sequences.begin(s) < sequences.end(s)) continue;
      for (Index block = 0; block < task_.blocks; ++block) {
        float* w = carry(block) + first_state_ * kLanes;
        load_sequence(g_.grad_final_state, s, block, first_state_, end_state_ - first_state_, w);
        store_sequence(g_.grad_initial_state, s, block, first_state_, end_state_ - first_state_, w);
      }
    }
  }

  void run_chunk(Index t0, Index rows) {
    t0_ = t0;
    rows_ = rows;
    chunk_ = (t0 - round_ * plan_.round_steps) / kScanChunk;
    leaves_parts_ = plan_.parts > 1;
    load_order(a_, k_, t0, rows, position_, row_);
    segment_count_ = Sequences{&a_, batch_}.segments(t0, t0 + rows, segments_);
    const T* B = input<T>(a_.B) + batch_ * a_.B.stride[0] + k_ * a_.B.stride[1] + task_.group * a_.B.stride[3];
    load_projection(B_, B, a_.B.stride[2], a_.B.stride[4], row_, rows, a_.states);
    const T* C = input<T>(a_.C) + batch_ * a_.C.stride[0] + k_ * a_.C.stride[1] + task_.group * a_.C.stride[3];
    load_projection(C_, C, a_.C.stride[2], a_.C.stride[4], row_, rows, a_.states);
    clear_floats(sums_, 2 * rows * a_.states);
    find_next();
    for (Index block = 0; block < task_.blocks; ++block) run_block(block);
    put_sums();
  }

  void run_block(Index block) {
    using Fast = std::conditional_t<sizeof(T) == 4, FloatExp2, HalfExp2>;
    const Reach reach = load_block(block);
    if (a_.states == 0) {
      clear_floats(tile(kGradDt), rows_ * kLanes);
      clear_floats(tile(kGradDx), rows_ * kLanes);
    } else if (reach == Reach::fast) {
      a_.z.data != nullptr ? run_states<Fast, true>(block) : run_states<Fast, false>(block);
    } else if (reach == Reach::clamped) {
      a_.z.data != nullptr ? run_states<ClampedExp2<Fast>, true>(block) : run_states<ClampedExp2<Fast>, false>(block);
    } else {
      using Forgetting = ForgettingExp2<Fast>;
      a_.z.data != nullptr ? run_states<Forgetting, true>(block) : run_states<Forgetting, false>(block);
    }
    if (!leaves_parts_) store_block(block);
  }

  // The chunk after this one in the order of work: of this batch row, the next row or the next item.
  void find_next() {
    next_ = {t0_ - kScanChunk, batch_, task_.first_channel, true};
    if (next_.t0 < round_ * plan_.round_steps) {
      next_.t0 = (lesser((round_ + 1) * plan_.round_steps, a_.steps) - 1) / kScanChunk * kScanChunk;
      if (++next_.batch == last_batch_) {
        next_.exists = next_item_ >= 0;
        if (!next_.exists) return;
        const Index next = next_item_ / plan_.parts;
        next_.batch = a_.batch * (next % plan_.batch_groups) / plan_.batch_groups;
        next_.channel = Task::make(plan_.channels, next / plan_.batch_groups).first_channel;
      }
    }
    load_order_padded(a_, k_, next_.t0, lesser(kScanChunk, a_.steps - next_.t0), kScanChunk, next_position_, next_row_);
  }
  // The inputs of the block after this one.
  Ahead inputs_ahead(Index block) const {
    Ahead ahead = Ahead::nothing(iota_);
    Index batch = batch_, channel = task_.channel(block) + kLanes;
    const Index *position = position_, *row = row_;
    if (block + 1 == task_.blocks) {
      if (!next_.exists) return ahead;
      batch = next_.batch, channel = next_.channel, position = next_position_, row = next_row_;
    }
    const auto rows_of = [&](int i, const StridedView& v) {
      ahead.set(i, input<T>(v) + batch * v.stride[0] + channel * v.stride[2], v.stride[1], position);
    };
    rows_of(0, a_.u);
    rows_of(1, g_.grad_y);
    if (!a_.wide_delta())
      ahead.set(
          2, input<T>(a_.delta) + batch * a_.delta.stride[0] + k_ * a_.delta.stride[1] + channel * a_.delta.stride[3],
          a_.delta.stride[2], row);
    if (a_.z.data != nullptr && !a_.wide_z()) rows_of(3, a_.z);
    return ahead;
  }
  // The rows that this block writes.
  Ahead outputs_ahead(Index block) const {
    Ahead ahead = Ahead::nothing(iota_);
    if (leaves_parts_) return ahead;
    const Index channel = task_.channel(block);
    const auto sum_rows = [&](int i, const Sums<T>& sum, const Index* rows) {
      ahead.set(i, sum.row(batch_, 0) + channel, sum.row_stride, rows);
    };
    if (plan_.routed) {
      sum_rows(0, all_.sums_u(), position_);
      if (a_.z.data != nullptr) sum_rows(2, all_.sums_z(), position_);
    } else {
      ahead.set(0, this->template at<T>(g_.grad_u, channel), g_.grad_u.stride[1], position_);
      if (a_.z.data != nullptr && !a_.wide_z())
        ahead.set(2, this->template at<T>(g_.grad_z, channel), g_.grad_z.stride[1], position_);
    }
    if (plan_.scatter) {
      sum_rows(1, all_.sums_delta(k_), row_);
    } else if (!a_.wide_delta()) {
      ahead.set(1, all_.params_row(g_.grad_delta, batch_, k_, 0) + channel, g_.grad_delta.stride[2], row_);
    }
    return ahead;
  }

  template <class Exp2, bool kOutput>
  void run_states(Index block) {
    Index n = first_state_;
    if constexpr (kMostStates >= 8) n = run_width<8, Exp2, kOutput>(block, n);
    n = run_width<4, Exp2, kOutput>(block, n);
    n = run_width<2, Exp2, kOutput>(block, n);
    run_width<1, Exp2, kOutput>(block, n);
  }
  // Sweep and reverse pass of states [n, n + kStates), and so on while as many are left.
  template <int kStates, class Exp2, bool kOutput>
  Index run_width(Index block, Index n) {
    constexpr Index kRow = kStates * kLanes;
    const float *dt = tile(kDt), *dx = tile(kDx), *dy = tile(kDy);
    for (; n + kStates <= end_state_; n += kStates) {
      const float* A = A_of(block) + n * kLanes;
      float *h = state_ + n * kLanes, *w = carry(block) + n * kLanes, *sums = sums_ + n * 2 * rows_;
      const Ahead inputs = n == first_state_ ? inputs_ahead(block) : Ahead::nothing(iota_);
      for (Index i = 0; i < segment_count_; ++i) {
        const Segment& s = segments_[i];
        const Index at = s.begin * kLanes, row = s.begin * a_.states + n;
        if (s.starts) load_sequence(a_.initial_state, s.sequence, block, n, kStates, h);
        sweep<kStates, Exp2, kOutput>(s.end - s.begin, a_.states, dt + at, dx + at, B_ + row, C_ + row, A, h,
                                      decays_ + s.begin * kRow, states_ + (s.begin + i) * kRow, tile(kY) + at, inputs,
                                      s.begin);
      }
      const Ahead outputs = n + kStates == end_state_ ? outputs_ahead(block) : Ahead::nothing(iota_);
      for (Index i = segment_count_ - 1; i >= 0; --i) {
        const Segment& s = segments_[i];
        const Index at = s.begin * kLanes, row = s.begin * a_.states + n;
        if (s.ends) load_sequence(g_.grad_final_state, s.sequence, block, n, kStates, w);
        reverse<kStates, Exp2::kForgets>(s.end - s.begin, a_.states, dt + at, dx + at, dy + at, B_ + row, C_ + row, A,
                                         decays_ + s.begin * kRow, states_ + (s.begin + i) * kRow, w,
                                         grad_A(block) + n * kLanes, sums + s.begin * 2 * kStates, tile(kGradDt) + at,
                                         tile(kGradDx) + at, n > first_state_, outputs, s.begin);
        if (s.starts) store_sequence(g_.grad_initial_state, s.sequence, block, n, kStates, w);
      }
    }
    return n;
  }

  // `sums_` to rows of grad_B and grad_C (or of the task's partial sums).
  void put_sums() {
    Index n = first_state_;
    if constexpr (kMostStates >= 8) n = put_width<8>(n);
    n = put_width<4>(n);
    n = put_width<2>(n);
    put_width<1>(n);
  }
  template <int kStates>
  Index put_width(Index n) {
    for (; n + kStates <= end_state_; n += kStates) {
      const float* sums = sums_ + n * 2 * rows_;
      for (Index t = 0; t < rows_; ++t, sums += 2 * kStates) put_row<kStates>(t, n, sums);
    }
    return n;
  }
  template <int kStates>
  void put_row(Index t, Index n, const float* sums) {
    float of_B[kStates], of_C[kStates];
    __builtin_memcpy(of_B, sums, sizeof of_B);
    __builtin_memcpy(of_C, sums + kStates, sizeof of_C);
    if (!plan_.direct) {
      float* to = all_.partial(batch_, task_index_) + (t0_ + t - round_ * plan_.round_steps) * 2 * a_.states + n;
      __builtin_memcpy(to, of_B, sizeof of_B);
      __builtin_memcpy(to + a_.states, of_C, sizeof of_C);
    } else if (plan_.scatter) {
      float* to_B = all_.sums_B(k_).row(batch_, row_[t]) + task_.group * a_.states + n;
      float* to_C = all_.sums_C(k_).row(batch_, row_[t]) + task_.group * a_.states + n;
      for (int i = 0; i < kStates; ++i) to_B[i] += of_B[i];
      for (int i = 0; i < kStates; ++i) to_C[i] += of_C[i];
    } else {
      T* to_B = all_.params_row(g_.grad_B, batch_, k_, row_[t]) + task_.group * a_.states + n;
      T* to_C = all_.params_row(g_.grad_C, batch_, k_, row_[t]) + task_.group * a_.states + n;
      for (int i = 0; i < kStates; ++i) to_B[i] = from_float<T>::cast(of_B[i]);
      for (int i = 0; i < kStates; ++i) to_C[i] = from_float<T>::cast(of_C[i]);
    }
  }

  struct Next {
    Index t0, batch, channel;
    bool exists;
  } next_{};
  Index first_state_ = 0, end_state_ = 0, next_item_ = -1, last_batch_ = 0, segment_count_ = 0;
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
