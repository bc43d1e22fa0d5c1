// Gradients that add up over visits, channel blocks or batch rows. For *.isa.cpp only.
#pragma once

#include "ops/selective_scan/scan_backward_plan.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// Rows that add up over visits: float32, in the output itself where T is float.
template <class T>
struct Sums {
  float* data;
  Index batch_stride, row_stride;

  static MAMBASDK_ALWAYS_INLINE Sums make(const StridedView& out, Index batch_stride, Index row_stride, float* buffer,
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

MAMBASDK_SIMD void clear_floats(float* p, Index n) {
  for (Index i = 0; i < n; ++i) p[i] = 0.0f;
}

// What the work items of a backward call share: the gradients that several of them add to, and how these are cleared,
// summed in a fixed order, and finished.
template <class T>
class BackwardSums {
 public:
  BackwardSums(const SelectiveScanArgs& args, const SelectiveScanGrads& grads, const BackwardPlan& plan,
               float* workspace)
      : a_(args), g_(grads), plan_(plan), work_(workspace) {}

  const SelectiveScanArgs& args() const { return a_; }
  const SelectiveScanGrads& grads() const { return g_; }
  const BackwardPlan& plan() const { return plan_; }

  Sums<T> sums_u() const {
    return Sums<T>::make(g_.grad_u, g_.grad_u.stride[0], g_.grad_u.stride[1], work_ + plan_.sum_u, a_.length,
                         a_.channels);
  }
  Sums<T> sums_z() const {
    return Sums<T>::make(g_.grad_z, g_.grad_z.stride[0], g_.grad_z.stride[1], work_ + plan_.sum_z, a_.length,
                         a_.channels);
  }
  // Parameter sums of route k: [B,P,width].
  Sums<T> sums_params(const StridedView& v, Index k, Index buffer, Index width) const {
    StridedView route = v;
    route.data = static_cast<T*>(v.data) + k * v.stride[1];
    return Sums<T>::make(route, v.stride[0], v.stride[2], work_ + buffer, a_.params, width);
  }
  Sums<T> sums_delta(Index k) const { return sums_params(g_.grad_delta, k, plan_.sum_delta, a_.channels); }
  Sums<T> sums_B(Index k) const { return sums_params(g_.grad_B, k, plan_.sum_B, a_.groups * a_.states); }
  Sums<T> sums_C(Index k) const { return sums_params(g_.grad_C, k, plan_.sum_C, a_.groups * a_.states); }

  template <class X>
  static void finish_row(X* out, const float* in, Index n) {
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
  void clear(Parallel parallel, const StridedView& out, Sums<T> sums) {
    if (out.data == nullptr) return;
    parallel(a_.batch * a_.length, 256, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) clear_floats(sums.row(i / a_.length, i % a_.length), a_.channels);
    });
  }
  template <class X>
  void finish(Parallel parallel, const StridedView& out, Sums<T> sums) {
    if (out.data == nullptr) return;
    parallel(a_.batch * a_.length, 256, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Index b = i / a_.length, row = i % a_.length;
        finish_row(output<X>(out) + b * out.stride[0] + row * out.stride[1], sums.row(b, row), a_.channels);
      }
    });
  }
  void clear_params(Parallel parallel, Index k) {
    const Index width = a_.groups * a_.states;
    parallel(a_.batch * a_.params, 256, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Index b = i / a_.params, row = i % a_.params;
        clear_floats(sums_delta(k).row(b, row), a_.channels);
        clear_floats(sums_B(k).row(b, row), width);
        clear_floats(sums_C(k).row(b, row), width);
      }
    });
  }
  template <class X = T>
  X* params_row(const StridedView& v, Index b, Index k, Index row) const {
    return output<X>(v) + b * v.stride[0] + k * v.stride[1] + row * v.stride[2];
  }
  void finish_params(Parallel parallel, Index k) {
    const Index width = a_.groups * a_.states;
    parallel(a_.batch * a_.params, 256, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Index b = i / a_.params, row = i % a_.params;
        if (a_.wide_delta()) {
          finish_row(params_row<float>(g_.grad_delta, b, k, row), sums_delta(k).row(b, row), a_.channels);
        } else {
          finish_row(params_row(g_.grad_delta, b, k, row), sums_delta(k).row(b, row), a_.channels);
        }
        finish_row(params_row(g_.grad_B, b, k, row), sums_B(k).row(b, row), width);
        finish_row(params_row(g_.grad_C, b, k, row), sums_C(k).row(b, row), width);
      }
    });
  }

  // What a part adds to grad_dt, grad_dx and y of a chunk of the round: tiles.
  float* part_tile(Index part, Index b, Index task, Index chunk, Index which) const {
    return work_ + plan_.part_tiles +
           (chunk_index(part * a_.batch + b, task, chunk) * BackwardPlan::kPartTiles + which) * plan_.tile_floats;
  }
  // grad_D and grad_delta_bias of a chunk of the round, where the chunks are combined from parts.
  float* chunk_sums(Index b, Index task, Index chunk) const {
    return work_ + plan_.chunk_sums + chunk_index(b, task, chunk) * 2 * kLanes;
  }
  Index chunk_index(Index b, Index task, Index chunk) const {
    return (b * plan_.channels.tasks + task) * (plan_.round_steps / kScanChunk) + chunk;
  }
  // Chunks in order. A batch row is a batch group here, and a task one block.
  void add_chunk_sums(Index chunks) const {
    for (Index b = 0; b < a_.batch; ++b) {
      for (Index task = 0; task < plan_.channels.tasks; ++task) {
        float* sum_skip = block_sum(plan_.grad_D, b, task, 0, kLanes);
        float* sum_bias = block_sum(plan_.grad_bias, b, task, 0, kLanes);
        for (Index chunk = 0; chunk < chunks; ++chunk) {
          const float* more = chunk_sums(b, task, chunk);
          store(sum_skip, load(sum_skip) + load(more));
          store(sum_bias, load(sum_bias) + load(more + kLanes));
        }
      }
    }
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
          const StridedView& v = g_.grad_A;
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
  void put_channels(const StridedView& v, Index k, Index channel, int n, Index offset, Index task, Index block) const {
    if (v.data == nullptr) return;
    float* sum = block_sum(offset, 0, task, block, kLanes);
    add_groups(sum, offset, task, block, kLanes);
    float* out = output<float>(v) + k * v.stride[0] + channel * v.stride[1];
    for (int c = 0; c < n; ++c) out[c * v.stride[1]] = sum[c];
  }

 private:
  const SelectiveScanArgs& a_;
  const SelectiveScanGrads& g_;
  const BackwardPlan& plan_;
  float* work_;
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
