// Selective scan, backward: states are recomputed chunk by chunk from the saved ones, then the chunk runs in reverse.
// grad_B and grad_C are summed as vectors over a task's channel blocks, across lanes once, and over tasks in their
// order.
#include "ops/selective_scan/scan_reduce.hpp"
#include "ops/selective_scan/scan_tile.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kMostStates = 8;  // states in registers; each needs two vectors
#else
constexpr int kMostStates = 4;
#endif

// Recomputes the states of a segment. Keeps decay a_t and carried state a_t h_{t-1} of each step (`kept`: rows of
// 2 * kStates vectors), adds dy_t h_t to the C half of `sums` (rows of 2 * kStates vectors: B, then C).
template <int kStates, class Exp2, bool kFirst, bool kOutput>
__attribute__((noinline)) void sweep(Index steps, Index row, const float* dt, const float* dx, const float* dy,
                                     const float* B, const float* C, const float* A, float* state, float* kept,
                                     float* sums, float* y) {
  const Exp2 exp2_of = Exp2::make();
  vf h[kStates];
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) h[n] = load(state + n * kLanes);
  for (Index t = 0; t < steps; ++t) {
    const vf d = load(dt + t * kLanes), x = load(dx + t * kLanes), g = load(dy + t * kLanes);
    vf sum = kOutput ? load(y + t * kLanes) : zero();
    float* keep = kept + t * (2 * kStates * kLanes);
    float* sum_C = sums + t * (2 * kStates * kLanes) + kStates * kLanes;
    MAMBASDK_UNROLL
    for (int n = 0; n < kStates; ++n) {
      const vf a = exp2_of(d * load(A + n * kLanes));
      const vf carried = a * h[n];
      h[n] = carried + x * B[t * row + n];
      store(keep + (2 * n) * kLanes, a);
      store(keep + (2 * n + 1) * kLanes, carried);
      store(sum_C + n * kLanes, kFirst ? h[n] * g : load(sum_C + n * kLanes) + h[n] * g);
      if constexpr (kOutput) sum = sum + h[n] * C[t * row + n];
    }
    if constexpr (kOutput) store(y + t * kLanes, sum);
  }
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) store(state + n * kLanes, h[n]);
}

// The reverse pass over the same steps. `carry`: gradient of the state that enters; `grad_A` adds up. A is scaled by
// log2 e, so `grad_dt` is still to be multiplied by ln 2. grad_dt and grad_dx are stored, or added to with `add`.
template <int kStates, bool kFirst>
__attribute__((noinline)) void reverse(Index steps, Index row, const float* dt, const float* dx, const float* dy,
                                       const float* B, const float* C, const float* A, const float* kept, float* carry,
                                       float* grad_A, float* sums, float* grad_dt, float* grad_dx, bool add) {
  vf w[kStates], gA[kStates];
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) {
    w[n] = load(carry + n * kLanes);
    gA[n] = zero();
  }
  for (Index t = steps - 1; t >= 0; --t) {
    const vf d = load(dt + t * kLanes), x = load(dx + t * kLanes), g = load(dy + t * kLanes);
    vf sum_dt = add ? load(grad_dt + t * kLanes) : zero(), sum_dx = add ? load(grad_dx + t * kLanes) : zero();
    const float* keep = kept + t * (2 * kStates * kLanes);
    float* sum_B = sums + t * (2 * kStates * kLanes);
    MAMBASDK_UNROLL
    for (int n = 0; n < kStates; ++n) {
      const vf dh = w[n] + g * C[t * row + n];
      const vf dz = dh * load(keep + (2 * n + 1) * kLanes);
      w[n] = dh * load(keep + (2 * n) * kLanes);
      store(sum_B + n * kLanes, kFirst ? dh * x : load(sum_B + n * kLanes) + dh * x);
      sum_dt = sum_dt + dz * load(A + n * kLanes);
      sum_dx = sum_dx + dh * B[t * row + n];
      gA[n] = gA[n] + dz * d;
    }
    store(grad_dt + t * kLanes, sum_dt);
    store(grad_dx + t * kLanes, sum_dx);
  }
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) {
    store(carry + n * kLanes, w[n]);
    store(grad_A + n * kLanes, load(grad_A + n * kLanes) + gA[n]);
  }
}

struct Plan {
  ChannelPlan channels;
  bool routed;         // outputs at positions add up over visits
  bool scatter;        // so do delta's, B's and C's
  bool direct;         // a group's grad_B and grad_C come from one task
  Index batch_groups;  // batch rows are shared out to this many work items per task
  Index round_steps, rounds;
  Index block_floats;  // A or states of a block
  Index tile_floats;   // a tile of a block
  std::size_t scratch;
  // Offsets into the workspace, in floats.
  Index carry, grad_A, grad_D, grad_bias, partial, sum_u, sum_z, sum_delta, sum_B, sum_C, floats;

  static MAMBASDK_ALWAYS_INLINE Plan make(const SelectiveScanArgs& a, const SelectiveScanGrads& grads) {
    Plan p;
    p.channels = ChannelPlan::make(a, 8, 6);
    const Index tasks = p.channels.tasks, blocks = tasks * p.channels.task_blocks, N = a.states;
    p.routed = a.routes != 1 || a.order.data != nullptr;
    p.scatter = a.order.data != nullptr && !a.step_params;
    p.direct = p.channels.group_tasks <= 1;
    p.batch_groups = greater(1, lesser(a.batch, ceil_div(64, greater(1, tasks))));
    p.round_steps = ceil_div(greater(a.steps, 1), kScanChunk) * kScanChunk;
    if (!p.direct) {  // partial sums of a round take about a mebibyte
      const Index step_floats = a.batch * tasks * 2 * N;
      const Index chunks = (Index{1} << 18) / greater(1, step_floats * kScanChunk);
      p.round_steps = lesser(p.round_steps, greater(1, chunks) * kScanChunk);
    }
    p.rounds = greater(1, ceil_div(a.steps, p.round_steps));
    p.block_floats = N * kLanes;
    p.tile_floats = kScanChunk * kLanes;
    const Index scratch_floats = p.channels.task_blocks * (2 * p.block_floats + kTiles * p.tile_floats) +
                                 4 * kMostStates * p.tile_floats + 2 * kScanChunk * N + 2 * kLanes;
    p.scratch = static_cast<std::size_t>(scratch_floats) * sizeof(float) + 3 * kScanChunk * sizeof(Index) +
                kScanChunk * sizeof(Segment);
    Index at = 0;
    const auto take = [&](Index floats) {
      const Index here = at;
      at += ceil_div(floats, 16) * 16;
      return here;
    };
    const bool half = a.type.bits == 16;
    p.carry = take((p.rounds > 1 ? a.batch : p.batch_groups) * blocks * p.block_floats);
    p.grad_A = take(p.batch_groups * blocks * p.block_floats);
    p.grad_D = take(p.batch_groups * blocks * kLanes);
    p.grad_bias = take(p.batch_groups * blocks * kLanes);
    p.partial = take(p.direct ? 0 : a.batch * tasks * p.round_steps * 2 * N);
    p.sum_u = take(p.routed && half ? a.batch * a.length * a.channels : 0);
    p.sum_z = take(p.routed && half && grads.grad_z.data != nullptr ? a.batch * a.length * a.channels : 0);
    p.sum_delta = take(p.scatter && half ? a.batch * a.params * a.channels : 0);
    p.sum_B = take(p.scatter && half ? a.batch * a.params * a.groups * N : 0);
    p.sum_C = take(p.scatter && half ? a.batch * a.params * a.groups * N : 0);
    p.floats = at;
    return p;
  }
  static constexpr int kTiles = 9;  // dt, dx, u, dy, grad_dt, grad_dx, y, gate, slope
};

// Rows that add up over visits: float32, in the output itself where T is float.
template <class T>
struct Sums {
  float* data;
  Index batch_stride, row_stride;

  static MAMBASDK_ALWAYS_INLINE Sums make(const ScanView& out, Index batch_stride, Index row_stride, float* buffer,
                                          Index rows, Index width) {
    if constexpr (sizeof(T) == 4) {
      (void)buffer, (void)rows, (void)width;
      return {static_cast<float*>(out.data), batch_stride, row_stride};
    } else {
      return {buffer, rows * width, width};
    }
  }
  MAMBASDK_ALWAYS_INLINE float* row(Index b, Index i) const { return data + b * batch_stride + i * row_stride; }
};

MAMBASDK_SIMD void add_to(float* p, vf x, int n) {
  store_n(p, load_n(static_cast<const float*>(p), n) + x, n);
}

template <class T>
class Backward {
 public:
  Backward(const SelectiveScanArgs& args, const SelectiveScanGrads& grads, const Plan& plan, float* workspace)
      : a_(args), g_(grads), plan_(plan), work_(workspace) {}

  bool run(Parallel parallel, ScanScratch scratch) {
    bool ok = true;
    const Index items = plan_.channels.tasks * plan_.batch_groups;
    if (a_.channels == 0) return clear_without_channels(), true;
    if (plan_.routed) {
      clear(parallel, g_.grad_u, sums_u());
      clear(parallel, g_.grad_z, sums_z());
    }
    for (Index k = 0; k < a_.routes; ++k) {
      if (plan_.scatter) clear_params(parallel, k);
      for (Index round = plan_.rounds - 1; round >= 0; --round) {
        parallel(items, 1, [&](Index begin, Index end) {
          void* memory = scratch.get(scratch.self, plan_.scratch);
          if (memory == nullptr) {
            __atomic_store_n(&ok, false, __ATOMIC_RELAXED);
            return;
          }
          Worker worker(*this, static_cast<char*>(memory), k, round);
          for (Index item = begin; item < end; ++item) worker.run(item);
          scratch.put(scratch.self, memory, plan_.scratch);
        });
        if (!plan_.direct) reduce_partials(parallel, k, round);
      }
      reduce_parameters(parallel, k);
      if (plan_.scatter && sizeof(T) == 2) finish_params(parallel, k);
    }
    if (plan_.routed && sizeof(T) == 2) {
      finish(parallel, g_.grad_u, sums_u());
      finish(parallel, g_.grad_z, sums_z());
    }
    return ok;
  }

 private:
  Sums<T> sums_u() const {
    return Sums<T>::make(g_.grad_u, g_.grad_u.stride[0], g_.grad_u.stride[1], work_ + plan_.sum_u, a_.length,
                         a_.channels);
  }
  Sums<T> sums_z() const {
    return Sums<T>::make(g_.grad_z, g_.grad_z.stride[0], g_.grad_z.stride[1], work_ + plan_.sum_z, a_.length,
                         a_.channels);
  }
  // Parameter sums of route k: [B,P,width].
  Sums<T> sums_params(const ScanView& v, Index k, Index buffer, Index width) const {
    ScanView route = v;
    route.data = static_cast<T*>(v.data) + k * v.stride[1];
    return Sums<T>::make(route, v.stride[0], v.stride[2], work_ + buffer, a_.params, width);
  }
  Sums<T> sums_delta(Index k) const { return sums_params(g_.grad_delta, k, plan_.sum_delta, a_.channels); }
  Sums<T> sums_B(Index k) const { return sums_params(g_.grad_B, k, plan_.sum_B, a_.groups * a_.states); }
  Sums<T> sums_C(Index k) const { return sums_params(g_.grad_C, k, plan_.sum_C, a_.groups * a_.states); }

  static void clear_row(float* p, Index n) {
    for (Index i = 0; i < n; ++i) p[i] = 0.0f;
  }
  static void finish_row(T* out, const float* in, Index n) {
    Index i = 0;
    for (; i + kLanes <= n; i += kLanes) store(out + i, load(in + i));
    if (i < n) store_n(out + i, load_n(in + i, static_cast<int>(n - i)), static_cast<int>(n - i));
  }
  void clear_without_channels() {  // no task would write them
    const Index width = a_.groups * a_.states;
    for (Index i = 0; i < a_.batch * a_.routes * a_.params; ++i) {
      const Index b = i / a_.params / a_.routes, k = i / a_.params % a_.routes, row = i % a_.params;
      for (Index n = 0; n < width; ++n) {
        params_row(g_.grad_B, b, k, row)[n] = from_float<T>::cast(0.0f);
        params_row(g_.grad_C, b, k, row)[n] = from_float<T>::cast(0.0f);
      }
    }
  }
  void clear(Parallel parallel, const ScanView& out, Sums<T> sums) {
    if (out.data == nullptr) return;
    parallel(a_.batch * a_.length, 256, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) clear_row(sums.row(i / a_.length, i % a_.length), a_.channels);
    });
  }
  void finish(Parallel parallel, const ScanView& out, Sums<T> sums) {
    if (out.data == nullptr) return;
    parallel(a_.batch * a_.length, 256, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Index b = i / a_.length, row = i % a_.length;
        finish_row(output<T>(out) + b * out.stride[0] + row * out.stride[1], sums.row(b, row), a_.channels);
      }
    });
  }
  void clear_params(Parallel parallel, Index k) {
    const Index width = a_.groups * a_.states;
    parallel(a_.batch * a_.params, 256, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Index b = i / a_.params, row = i % a_.params;
        clear_row(sums_delta(k).row(b, row), a_.channels);
        clear_row(sums_B(k).row(b, row), width);
        clear_row(sums_C(k).row(b, row), width);
      }
    });
  }
  T* params_row(const ScanView& v, Index b, Index k, Index row) const {
    return output<T>(v) + b * v.stride[0] + k * v.stride[1] + row * v.stride[2];
  }
  void finish_params(Parallel parallel, Index k) {
    const Index width = a_.groups * a_.states;
    parallel(a_.batch * a_.params, 256, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Index b = i / a_.params, row = i % a_.params;
        finish_row(params_row(g_.grad_delta, b, k, row), sums_delta(k).row(b, row), a_.channels);
        finish_row(params_row(g_.grad_B, b, k, row), sums_B(k).row(b, row), width);
        finish_row(params_row(g_.grad_C, b, k, row), sums_C(k).row(b, row), width);
      }
    });
  }

  float* partial(Index b, Index task) const {
    return work_ + plan_.partial + (b * plan_.channels.tasks + task) * plan_.round_steps * 2 * a_.states;
  }
  // grad_B and grad_C rows of one step and group.
  void put_row(Index b, Index k, Index row, Index group, const float* B, const float* C) const {
    const Index N = a_.states;
    if (plan_.scatter) {
      float *sum_B = sums_B(k).row(b, row) + group * N, *sum_C = sums_C(k).row(b, row) + group * N;
      for (Index n = 0; n < N; ++n) {
        sum_B[n] += B[n];
        sum_C[n] += C[n];
      }
    } else {
      finish_row(params_row(g_.grad_B, b, k, row) + group * N, B, N);
      finish_row(params_row(g_.grad_C, b, k, row) + group * N, C, N);
    }
  }
  void reduce_partials(Parallel parallel, Index k, Index round) {
    const Index t0 = round * plan_.round_steps, steps = lesser(plan_.round_steps, a_.steps - t0);
    const Index N = a_.states, tasks = plan_.channels.group_tasks, width = 2 * N;
    if (steps <= 0) return;
    parallel(a_.batch * a_.groups * steps, 64, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Index b = i / steps / a_.groups, group = i / steps % a_.groups, t = i % steps;
        float* sum = partial(b, group * tasks) + t * width;
        for (Index task = 1; task < tasks; ++task) {
          const float* more = partial(b, group * tasks + task) + t * width;
          for (Index n = 0; n < width; ++n) sum[n] += more[n];
        }
        if (!plan_.scatter) put_row(b, k, t0 + t, group, sum, sum + N);
      }
    });
    if (!plan_.scatter) return;
    parallel(a_.batch * a_.groups, 1, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Index b = i / a_.groups, group = i % a_.groups;
        for (Index t = 0; t < steps; ++t) {
          Index position, row;
          load_order(a_, k, t0 + t, 1, &position, &row);
          const float* sum = partial(b, group * tasks) + t * width;
          put_row(b, k, row, group, sum, sum + N);
        }
      }
    });
  }
  // grad_A, grad_D and grad_delta_bias of route k: over the batch groups, in order.
  void reduce_parameters(Parallel parallel, Index k) {
    parallel(plan_.channels.tasks, 1, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Task task = Task::make(plan_.channels, i);
        for (Index block = 0; block < task.blocks; ++block) {
          const Index channel = task.channel(block);
          const int n = task.lanes(block);
          float* sum = block_sum(plan_.grad_A, 0, i, block, plan_.block_floats);
          add_groups(sum, plan_.grad_A, i, block, plan_.block_floats);
          const ScanView& v = g_.grad_A;
          store_states(output<float>(v) + k * v.stride[0] + channel * v.stride[1], v.stride[1], v.stride[2], sum,
                       a_.states, n);
          put_channels(g_.grad_D, k, channel, n, plan_.grad_D, i, block);
          put_channels(g_.grad_delta_bias, k, channel, n, plan_.grad_bias, i, block);
        }
      }
    });
  }
  float* block_sum(Index offset, Index group, Index task, Index block, Index floats) const {
    return work_ + offset + ((group * plan_.channels.tasks + task) * plan_.channels.task_blocks + block) * floats;
  }
  void add_groups(float* sum, Index offset, Index task, Index block, Index floats) const {
    for (Index group = 1; group < plan_.batch_groups; ++group) {
      const float* more = block_sum(offset, group, task, block, floats);
      for (Index i = 0; i < floats; i += kLanes) store(sum + i, load(sum + i) + load(more + i));
    }
  }
  void put_channels(const ScanView& v, Index k, Index channel, int n, Index offset, Index task, Index block) const {
    if (v.data == nullptr) return;
    float* sum = block_sum(offset, 0, task, block, kLanes);
    add_groups(sum, offset, task, block, kLanes);
    float* out = output<float>(v) + k * v.stride[0] + channel * v.stride[1];
    for (int c = 0; c < n; ++c) out[c * v.stride[1]] = sum[c];
  }

  // One running range: its scratch, and the walk over batch rows, chunks, state blocks and channel blocks.
  class Worker {
   public:
    Worker(Backward& all, char* scratch, Index k, Index round)
        : all_(all), a_(all.a_), g_(all.g_), plan_(all.plan_), k_(k), round_(round) {
      const auto take = [&](Index floats) {
        float* p = reinterpret_cast<float*>(scratch);
        scratch += floats * static_cast<Index>(sizeof(float));
        return p;
      };
      const Index blocks = plan_.channels.task_blocks;
      A_ = take(blocks * plan_.block_floats);
      state_ = take(blocks * plan_.block_floats);
      tiles_ = take(blocks * Plan::kTiles * plan_.tile_floats);
      kept_ = take(2 * kMostStates * plan_.tile_floats);
      sums_ = take(2 * kMostStates * plan_.tile_floats);
      B_ = take(kScanChunk * a_.states);
      C_ = take(kScanChunk * a_.states);
      reduced_ = take(2 * kLanes);
      position_ = reinterpret_cast<Index*>(scratch);
      row_ = position_ + kScanChunk;
      iota_ = row_ + kScanChunk;
      for (Index i = 0; i < kScanChunk; ++i) iota_[i] = i;
      segments_ = reinterpret_cast<Segment*>(iota_ + kScanChunk);
    }

    void run(Index item) {
      task_index_ = item / plan_.batch_groups;
      batch_group_ = item % plan_.batch_groups;
      task_ = Task::make(plan_.channels, task_index_);
      for (Index block = 0; block < task_.blocks; ++block) {
        const ScanView& v = a_.A;
        load_states(A_of(block), input<float>(v) + k_ * v.stride[0] + task_.channel(block) * v.stride[1], v.stride[1],
                    v.stride[2], a_.states, task_.lanes(block), kLog2e);
        if (round_ != plan_.rounds - 1) continue;
        clear_row(grad_A(block), plan_.block_floats);
        clear_row(channel_sum(plan_.grad_D, block), kLanes);
        clear_row(channel_sum(plan_.grad_bias, block), kLanes);
      }
      const Index first = a_.batch * batch_group_ / plan_.batch_groups;
      const Index last = a_.batch * (batch_group_ + 1) / plan_.batch_groups;
      for (batch_ = first; batch_ < last; ++batch_) {
        if (round_ == plan_.rounds - 1) pass_empty_sequences();
        const Index from = round_ * plan_.round_steps, to = lesser(from + plan_.round_steps, a_.steps);
        for (Index t0 = (to - 1) / kScanChunk * kScanChunk; t0 >= from && to > 0; t0 -= kScanChunk) {
          run_chunk(t0, lesser(kScanChunk, a_.steps - t0));
        }
      }
    }

   private:
    enum Tile { kDt, kDx, kU, kDy, kGradDt, kGradDx, kY, kGate, kSlope };
    float* tile(Index block, Tile which) const { return tiles_ + (block * Plan::kTiles + which) * plan_.tile_floats; }
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
      if (v.data == nullptr) return clear_row(to, count * kLanes);
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
          load_sequence(g_.grad_final_state, s, block, 0, a_.states, carry(block));
          store_sequence(g_.grad_initial_state, s, block, 0, a_.states, carry(block));
        }
      }
    }

    void run_chunk(Index t0, Index rows) {
      t0_ = t0;
      rows_ = rows;
      load_order(a_, k_, t0, rows, position_, row_);
      segment_count_ = Sequences{&a_, batch_}.segments(t0, t0 + rows, segments_);
      const T* B = input<T>(a_.B) + batch_ * a_.B.stride[0] + k_ * a_.B.stride[1] + task_.group * a_.B.stride[3];
      load_projection(B_, B, a_.B.stride[2], a_.B.stride[4], row_, rows, a_.states);
      const T* C = input<T>(a_.C) + batch_ * a_.C.stride[0] + k_ * a_.C.stride[1] + task_.group * a_.C.stride[3];
      load_projection(C_, C, a_.C.stride[2], a_.C.stride[4], row_, rows, a_.states);
      bool fast = true;
      for (Index block = 0; block < task_.blocks; ++block) fast &= load_block(block);
      using Fast = std::conditional_t<sizeof(T) == 4, FloatExp2, HalfExp2>;
      if (a_.z.data != nullptr) {
        fast ? run_states<Fast, true>() : run_states<ClampedExp2<Fast>, true>();
      } else {
        fast ? run_states<Fast, false>() : run_states<ClampedExp2<Fast>, false>();
      }
      for (Index block = 0; block < task_.blocks; ++block) store_block(block);
    }

    // Tiles and start states of a channel block; returns whether the fast exp2 will do.
    bool load_block(Index block) {
      const Index channel = task_.channel(block);
      const int n = task_.lanes(block);
      const bool fast = is_fast(stage(block, channel, n), largest_magnitude(A_of(block), a_.states));
      if (a_.z.data != nullptr) stage_gate(block, channel, n);
      if (t0_ == 0) {  // a sequence starts here
        clear_row(state_ + block * plan_.block_floats, plan_.block_floats);
        return fast;
      }
      const ScanView& v = a_.chunk_states;
      load_states(state_ + block * plan_.block_floats,
                  input<float>(v) + batch_ * v.stride[0] + k_ * v.stride[1] + t0_ / kScanChunk * v.stride[2] +
                      channel * v.stride[3],
                  v.stride[3], v.stride[4], a_.states, n, 1.0f);
      return fast;
    }

    bool is_plain(int n) const {
      return n == kLanes && a_.u.stride[2] == 1 && a_.delta.stride[3] == 1 && g_.grad_y.stride[2] == 1;
    }
    Rows<T> u_rows(Index channel) const { return {at<T>(a_.u, channel), a_.u.stride[1], position_}; }
    Rows<float> tile_rows(Index block, Tile which) const { return {tile(block, which), kLanes, iota_}; }

    // Fills dt (with bias and softplus), dx = dt u, dy and, with softplus, its slope; u too where it had to be moved.
    vi stage(Index block, Index channel, int n) {
      const vf bias = a_.delta_bias.data != nullptr ? per_channel(a_.delta_bias, channel, n) : zero();
      const Rows<T> u = u_rows(channel), dy{at<T>(g_.grad_y, channel), g_.grad_y.stride[1], position_};
      const Rows<T> delta{
          input<T>(a_.delta) + batch_ * a_.delta.stride[0] + k_ * a_.delta.stride[1] + channel * a_.delta.stride[3],
          a_.delta.stride[2], row_};
      if (is_plain(n)) {
        return a_.delta_softplus ? stage_rows<true>(block, u, delta, dy, bias)
                                 : stage_rows<false>(block, u, delta, dy, bias);
      }
      load_rows(tile(block, kU), u.base, u.stride, a_.u.stride[2], position_, rows_, n);
      load_rows(tile(block, kDt), delta.base, delta.stride, a_.delta.stride[3], row_, rows_, n);
      load_rows(tile(block, kDy), dy.base, dy.stride, g_.grad_y.stride[2], position_, rows_, n);
      const Rows<float> u_tile = tile_rows(block, kU), delta_tile = tile_rows(block, kDt),
                        dy_tile = tile_rows(block, kDy);
      return a_.delta_softplus ? stage_rows<true>(block, u_tile, delta_tile, dy_tile, bias)
                               : stage_rows<false>(block, u_tile, delta_tile, dy_tile, bias);
    }
    template <bool kSoftplus, class X>
    vi stage_rows(Index block, Rows<X> u, Rows<X> delta, Rows<X> dy, vf bias) {
      float *to_dt = tile(block, kDt), *to_dx = tile(block, kDx), *to_dy = tile(block, kDy);
      float* to_slope = tile(block, kSlope);
      vi largest = vi{};
      for (Index i = 0; i < rows_; ++i) {
        vf d = load(delta(i)) + bias;
        if constexpr (kSoftplus) {
          vf slope;
          d = softplus(d, slope);
          store(to_slope + i * kLanes, slope);
        }
        const vf x = load(u(i)), g = load(dy(i));
        prefetch(delta(i), kLanes * sizeof(X));
        prefetch(u(i), kLanes * sizeof(X));
        prefetch(dy(i), kLanes * sizeof(X));
        largest = larger_bits(largest, d);
        store(to_dt + i * kLanes, d);
        store(to_dx + i * kLanes, d * x);
        store(to_dy + i * kLanes, g);
      }
      return largest;
    }
    // dy through the gate, what y is to be multiplied by for grad_z, and y's share that passes by the states.
    void stage_gate(Index block, Index channel, int n) {
      float *y = tile(block, kY), *gate = tile(block, kGate), *dy = tile(block, kDy), *u = tile(block, kU);
      const vf skip = a_.D.data != nullptr ? per_channel(a_.D, channel, n) : zero();
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
    void run_states() {
      Index n = 0;
      if constexpr (kMostStates >= 8) n = run_width<8, Exp2, kOutput>(n);
      n = run_width<4, Exp2, kOutput>(n);
      n = run_width<2, Exp2, kOutput>(n);
      run_width<1, Exp2, kOutput>(n);
    }
    template <int kStates, class Exp2, bool kOutput>
    Index run_width(Index n) {
      for (; n + kStates <= a_.states; n += kStates) {
        for (Index block = 0; block < task_.blocks; ++block) {
          if (block == 0) {
            run_pair<kStates, Exp2, kOutput, true>(block, n);
          } else {
            run_pair<kStates, Exp2, kOutput, false>(block, n);
          }
        }
        reduce_sums<kStates>(n);
      }
      return n;
    }
    // Sweep and reverse pass of states [n, n + kStates) of a channel block.
    template <int kStates, class Exp2, bool kOutput, bool kFirst>
    void run_pair(Index block, Index n) {
      constexpr Index kRow = 2 * kStates * kLanes;
      const float *dt = tile(block, kDt), *dx = tile(block, kDx), *dy = tile(block, kDy), *A = A_of(block) + n * kLanes;
      float* h = state_ + block * plan_.block_floats + n * kLanes;
      float* w = carry(block) + n * kLanes;
      for (Index i = 0; i < segment_count_; ++i) {
        const Segment& s = segments_[i];
        const Index at = s.begin * kLanes, row = s.begin * a_.states + n;
        if (s.starts) load_sequence(a_.initial_state, s.sequence, block, n, kStates, h);
        sweep<kStates, Exp2, kFirst, kOutput>(s.end - s.begin, a_.states, dt + at, dx + at, dy + at, B_ + row, C_ + row,
                                              A, h, kept_ + s.begin * kRow, sums_ + s.begin * kRow,
                                              tile(block, kY) + at);
      }
      for (Index i = segment_count_ - 1; i >= 0; --i) {
        const Segment& s = segments_[i];
        const Index at = s.begin * kLanes, row = s.begin * a_.states + n;
        if (s.ends) load_sequence(g_.grad_final_state, s.sequence, block, n, kStates, w);
        reverse<kStates, kFirst>(s.end - s.begin, a_.states, dt + at, dx + at, dy + at, B_ + row, C_ + row, A,
                                 kept_ + s.begin * kRow, w, grad_A(block) + n * kLanes, sums_ + s.begin * kRow,
                                 tile(block, kGradDt) + at, tile(block, kGradDx) + at, n > 0);
        if (s.starts) store_sequence(g_.grad_initial_state, s.sequence, block, n, kStates, w);
      }
    }

    // Lanes of `sums_` to rows of grad_B and grad_C (or of the task's partial sums), states [n, n + kStates).
    template <int kStates>
    void reduce_sums(Index n) {
      constexpr int kWidth = 2 * kStates;
      for (Index t = 0; t < rows_; ++t) {
        const float* row = sums_ + t * (kWidth * kLanes);
        if constexpr (kWidth >= kLanes) {
          MAMBASDK_UNROLL
          for (int i = 0; i < kWidth; i += kLanes) store(reduced_ + i, reduce_rows(row + i * kLanes));
        } else {
          MAMBASDK_UNROLL
          for (int i = 0; i < kWidth; ++i) reduced_[i] = reduce_add(load(row + i * kLanes));
        }
        if (!plan_.direct) {
          const Index t_round = t0_ + t - round_ * plan_.round_steps;
          float* to = all_.partial(batch_, task_index_) + t_round * 2 * a_.states + n;
          __builtin_memcpy(to, reduced_, kStates * sizeof(float));
          __builtin_memcpy(to + a_.states, reduced_ + kStates, kStates * sizeof(float));
        } else if (plan_.scatter) {
          float* to_B = all_.sums_B(k_).row(batch_, row_[t]) + task_.group * a_.states + n;
          float* to_C = all_.sums_C(k_).row(batch_, row_[t]) + task_.group * a_.states + n;
          for (int i = 0; i < kStates; ++i) {
            to_B[i] += reduced_[i];
            to_C[i] += reduced_[kStates + i];
          }
        } else {
          T* to_B = all_.params_row(g_.grad_B, batch_, k_, row_[t]) + task_.group * a_.states + n;
          T* to_C = all_.params_row(g_.grad_C, batch_, k_, row_[t]) + task_.group * a_.states + n;
          for (int i = 0; i < kStates; ++i) {
            to_B[i] = from_float<T>::cast(reduced_[i]);
            to_C[i] = from_float<T>::cast(reduced_[kStates + i]);
          }
        }
      }
    }

    void store_block(Index block) {
      const Index channel = task_.channel(block);
      const int n = task_.lanes(block);
      if (is_plain(n)) {
        store_gradients(block, channel, n, u_rows(channel));
      } else {
        store_gradients(block, channel, n, tile_rows(block, kU));
      }
      if (a_.z.data == nullptr) return;
      const float *y = tile(block, kY), *gate = tile(block, kGate);
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
      const float *dt = tile(block, kDt), *dy = tile(block, kDy), *slope = tile(block, kSlope);
      const float *grad_dt = tile(block, kGradDt), *grad_dx = tile(block, kGradDx);
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
      store(sum_skip, load(sum_skip) + grad_skip);
      store(sum_bias, load(sum_bias) + grad_bias);
    }

    const Backward& all_;
    const SelectiveScanArgs& a_;
    const SelectiveScanGrads& g_;
    const Plan& plan_;
    Index k_, round_;
    float *A_, *state_, *tiles_, *kept_, *sums_, *B_, *C_, *reduced_;
    Index *position_, *row_, *iota_;
    Segment* segments_;
    Index task_index_ = 0, batch_group_ = 0, batch_ = 0, t0_ = 0, rows_ = 0, segment_count_ = 0;
    Task task_{};
  };

  const SelectiveScanArgs& a_;
  const SelectiveScanGrads& g_;
  const Plan plan_;
  float* work_;
};

}  // namespace

std::size_t selective_scan_backward_workspace(const SelectiveScanArgs& args, const SelectiveScanGrads& grads) {
  return static_cast<std::size_t>(Plan::make(args, grads).floats) * sizeof(float);
}

bool selective_scan_backward(const SelectiveScanArgs& args, const SelectiveScanGrads& grads, Parallel parallel,
                             ScanScratch scratch, void* workspace) {
  const Plan plan = Plan::make(args, grads);
  float* work = static_cast<float*>(workspace);
  if (args.type == dtype::f32) return Backward<float>(args, grads, plan, work).run(parallel, scratch);
  if (args.type == dtype::bf16) return Backward<bf16>(args, grads, plan, work).run(parallel, scratch);
  return Backward<f16>(args, grads, plan, work).run(parallel, scratch);
}

}  // namespace mambasdk::MAMBASDK_ISA
