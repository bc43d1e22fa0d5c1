// A running range of the backward scan. For *.isa.cpp only.
#pragma once

#include "ops/selective_scan/scan_backward_sums.hpp"
#include "ops/vector_sums.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// One running range: its scratch, and the walk over batch rows, chunks, state blocks and channel blocks.
template <class T>
class BackwardWorker {
 public:
  BackwardWorker(const BackwardSums<T>& all, char* scratch, Index k, Index round)
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
      const ScanView& v = a_.A;
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
  float* carry(Index block) const {
    return all_.block_sum(plan_.carry, plan_.rounds > 1 ? batch_ : batch_group_, task_index_, block,
                          plan_.block_floats);
  }
  float* grad_A(Index block) const {
    return all_.block_sum(plan_.grad_A, batch_group_, task_index_, block, plan_.block_floats);
  }
  float* channel_sum(Index offset, Index block) const {
    return all_.block_sum(offset, batch_group_, task_index_, block, kLanes);
  }
  template <class X>
  X* at(const ScanView& v, Index channel) const {  // (b, :, channel) of a [B,L,D] tensor
    return static_cast<X*>(v.data) + batch_ * v.stride[0] + channel * v.stride[2];
  }
  vf per_channel(const ScanView& v, Index channel, int n) const {  // acc[K,D]
    return load_lanes(input<float>(v) + k_ * v.stride[0] + channel * v.stride[1], v.stride[1], n);
  }
  // States [n, n + count) of a block in an acc[S,K,D,N] tensor.
  void load_sequence(const ScanView& v, Index sequence, Index block, Index n, Index count, float* to) const {
    if (v.data == nullptr) return clear_floats(to, count * kLanes);
    load_states(to,
                input<float>(v) + sequence * v.stride[0] + k_ * v.stride[1] + task_.channel(block) * v.stride[2] +
                    n * v.stride[3],
                v.stride[2], v.stride[3], count, task_.lanes(block), 1.0f);
  }
  void store_sequence(const ScanView& v, Index sequence, Index block, Index n, Index count, const float* from) const {
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
    const bool fast = load_block(block);
    if (a_.z.data != nullptr) {
      fast ? run_states<Fast, true>(block) : run_states<ClampedExp2<Fast>, true>(block);
    } else {
      fast ? run_states<Fast, false>(block) : run_states<ClampedExp2<Fast>, false>(block);
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
    const auto rows_of = [&](int i, const ScanView& v) {
      ahead.set(i, input<T>(v) + batch * v.stride[0] + channel * v.stride[2], v.stride[1], position);
    };
    rows_of(0, a_.u);
    rows_of(1, g_.grad_y);
    ahead.set(2,
              input<T>(a_.delta) + batch * a_.delta.stride[0] + k_ * a_.delta.stride[1] + channel * a_.delta.stride[3],
              a_.delta.stride[2], row);
    if (a_.z.data != nullptr) rows_of(3, a_.z);
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
      ahead.set(0, at<T>(g_.grad_u, channel), g_.grad_u.stride[1], position_);
      if (a_.z.data != nullptr) ahead.set(2, at<T>(g_.grad_z, channel), g_.grad_z.stride[1], position_);
    }
    if (plan_.scatter) {
      sum_rows(1, all_.sums_delta(k_), row_);
    } else {
      ahead.set(1, all_.params_row(g_.grad_delta, batch_, k_, 0) + channel, g_.grad_delta.stride[2], row_);
    }
    return ahead;
  }

  // Tiles and start states of a channel block; returns whether the fast exp2 will do.
  bool load_block(Index block) {
    const Index channel = task_.channel(block);
    const int n = task_.lanes(block);
    const bool fast = is_fast(stage(channel, n), largest_magnitude(A_of(block), a_.states));
    if (a_.z.data != nullptr) stage_gate(channel, n);
    if (t0_ == 0) {  // a sequence starts here
      clear_floats(state_, plan_.block_floats);
      return fast;
    }
    const ScanView& v = a_.chunk_states;
    load_states(state_,
                input<float>(v) + batch_ * v.stride[0] + k_ * v.stride[1] + t0_ / kScanChunk * v.stride[2] +
                    channel * v.stride[3],
                v.stride[3], v.stride[4], a_.states, n, 1.0f);
    return fast;
  }

  bool is_plain(int n) const {
    return n == kLanes && a_.u.stride[2] == 1 && a_.delta.stride[3] == 1 && g_.grad_y.stride[2] == 1;
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
    load_rows(tile(kDt), delta.base, delta.stride, a_.delta.stride[3], row_, rows_, n);
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
    const vf skip = a_.D.data != nullptr && part_ == 0 ? per_channel(a_.D, channel, n) : zero();
    load_rows(gate, at<T>(a_.z, channel), a_.z.stride[1], a_.z.stride[2], position_, rows_, n);
    if (is_plain(n)) load_rows(u, at<T>(a_.u, channel), a_.u.stride[1], a_.u.stride[2], position_, rows_, n);
    for (Index i = 0; i < rows_; ++i) {
      const vf z = load(gate + i * kLanes), g = load(dy + i * kLanes), s = sigmoid(z);
      store(dy + i * kLanes, g * z * s);
      store(gate + i * kLanes, g * s * (1.0f + z * (1.0f - s)));
      store(y + i * kLanes, skip * load(u + i * kLanes));
    }
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
        reverse<kStates>(s.end - s.begin, a_.states, dt + at, dx + at, dy + at, B_ + row, C_ + row, A,
                         decays_ + s.begin * kRow, states_ + (s.begin + i) * kRow, w, grad_A(block) + n * kLanes,
                         sums + s.begin * 2 * kStates, tile(kGradDt) + at, tile(kGradDx) + at, n > first_state_,
                         outputs, s.begin);
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
    for (Index i = 0; i < rows_; ++i) {
      const vf out = load(y + i * kLanes) * load(gate + i * kLanes);
      if (plan_.routed) {
        add_to(sum_z.row(batch_, position_[i]) + channel, out, n);
      } else {
        store_n(out_z + position_[i] * g_.grad_z.stride[1], out, n);
      }
    }
  }
  template <class X>
  void store_gradients(Index block, Index channel, int n, Rows<X> u) {
    const float *dt = tile(kDt), *dy = tile(kDy), *slope = tile(kSlope);
    const float *grad_dt = tile(kGradDt), *grad_dx = tile(kGradDx);
    const vf skip = a_.D.data != nullptr ? per_channel(a_.D, channel, n) : zero();
    vf grad_skip = zero(), grad_bias = zero();
    const Sums<T> sum_u = all_.sums_u(), sum_delta = all_.sums_delta(k_);
    T* out_u = at<T>(g_.grad_u, channel);
    T* out_delta = all_.params_row(g_.grad_delta, batch_, k_, 0) + channel;
    for (Index i = 0; i < rows_; ++i) {
      const vf x = load(u(i)), g = load(dy + i * kLanes), gx = load(grad_dx + i * kLanes);
      vf raw = load(grad_dt + i * kLanes) * kLn2 + gx * x;
      if (a_.delta_softplus) raw = raw * load(slope + i * kLanes);
      grad_bias = grad_bias + raw;
      grad_skip = grad_skip + g * x;
      if (plan_.scatter) {
        add_to(sum_delta.row(batch_, row_[i]) + channel, raw, n);
      } else {
        store_n(out_delta + row_[i] * g_.grad_delta.stride[2], raw, n);
      }
      const vf out = gx * load(dt + i * kLanes) + skip * g;
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
  struct Next {
    Index t0, batch, channel;
    bool exists;
  } next_{};
  bool leaves_parts_ = false;  // running a part: grad_dt, grad_dx and y go to the workspace
  Index part_ = 0, first_state_ = 0, end_state_ = 0, chunk_ = 0;
  Index next_item_ = -1, last_batch_ = 0;
  Index task_index_ = 0, batch_group_ = 0, batch_ = 0, t0_ = 0, rows_ = 0, segment_count_ = 0;
  Task task_{};
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
