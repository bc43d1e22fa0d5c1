// Selective scan, backward: states are recomputed chunk by chunk from the saved ones, then the chunk runs in reverse.
// grad_B and grad_C are summed across lanes at once, then over channel blocks and tasks in their order.
#include "kernels/flush_denormals.hpp"
#include "ops/selective_scan/scan_backward_worker.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

template <class T>
bool backward(const SelectiveScanArgs& args, const SelectiveScanGrads& grads, const BackwardPlan& plan,
              float* workspace, Parallel parallel, ThreadScratch scratch) {
  BackwardSums<T> sums(args, grads, plan, workspace);
  bool ok = true;
  // A range of 32 thousand vector steps takes about a fifth of a millisecond; less is not worth a second thread.
  const Index work =
      (args.steps + 1) * ceil_div(args.batch, plan.batch_groups) * plan.channels.task_blocks * (args.states + 4);
  const Index grain = greater(1, (Index{1} << 15) / greater(1, work));
  if (args.channels == 0) return sums.clear_without_channels(), true;
  if (plan.routed) {
    sums.clear(parallel, grads.grad_u, sums.sums_u());
    sums.clear(parallel, grads.grad_z, sums.sums_z());
  }
  for (Index k = 0; k < args.routes; ++k) {
    if (plan.scatter) sums.clear_params(parallel, k);
    for (Index round = plan.rounds - 1; round >= 0; --round) {
      const auto with_worker = [&](auto&& body) {
        void* memory = scratch.get(scratch.self, plan.scratch);
        if (memory == nullptr) {
          __atomic_store_n(&ok, false, __ATOMIC_RELAXED);
          return;
        }
        BackwardWorker<T> worker(sums, static_cast<char*>(memory), k, round);
        body(worker);
        scratch.put(scratch.self, memory, plan.scratch);
      };
      parallel(plan.items(), grain, [&](Index begin, Index end) {
        const FlushDenormals flush;
        with_worker([&](BackwardWorker<T>& worker) {
          for (Index item = begin; item < end; ++item) worker.run(item, end);
        });
      });
      if (plan.parts > 1) {
        const Index steps = lesser(plan.round_steps, args.steps - round * plan.round_steps);
        const Index chunks = ceil_div(steps, kScanChunk);
        parallel(args.batch * chunks, 4, [&](Index begin, Index end) {
          with_worker([&](BackwardWorker<T>& worker) {
            for (Index i = begin; i < end; ++i) worker.combine(i / chunks, i % chunks);
          });
        });
        sums.add_chunk_sums(chunks);
      }
      if (!plan.direct) sums.reduce_partials(parallel, k, round);
    }
    sums.reduce_parameters(parallel, k);
    if (plan.scatter && sizeof(T) == 2) sums.finish_params(parallel, k);
  }
  if (plan.routed && sizeof(T) == 2) {
    sums.template finish<T>(parallel, grads.grad_u, sums.sums_u());
    if (args.wide_z()) {
      sums.template finish<float>(parallel, grads.grad_z, sums.sums_z());
    } else {
      sums.template finish<T>(parallel, grads.grad_z, sums.sums_z());
    }
  }
  return ok;
}

}  // namespace

std::size_t selective_scan_backward_workspace(const SelectiveScanArgs& args, const SelectiveScanGrads& grads) {
  return static_cast<std::size_t>(BackwardPlan::make(args, grads).floats) * sizeof(float);
}

bool selective_scan_backward(const SelectiveScanArgs& args, const SelectiveScanGrads& grads, Parallel parallel,
                             ThreadScratch scratch, void* workspace) {
  MAMBASDK_SHARE_AVX512(args.type == dtype::bf16, selective_scan_backward(args, grads, parallel, scratch, workspace));
  const BackwardPlan plan = BackwardPlan::make(args, grads);
  float* work = static_cast<float*>(workspace);
  return with_own_type(args.type, [&]<class T>(T) { return backward<T>(args, grads, plan, work, parallel, scratch); });
}

}  // namespace mambasdk::MAMBASDK_ISA
