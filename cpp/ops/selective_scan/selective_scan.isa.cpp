// Selective scan, forward: channels in vector lanes, states in registers, steps in tiles that stay in the first cache.
#include "kernels/flush_denormals.hpp"
#include "ops/selective_scan/scan_forward_worker.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

template <class T>
bool forward(const SelectiveScanArgs& args, Parallel parallel, ThreadScratch scratch, void* workspace) {
  const Plan plan = Plan::make(args);
  // About 100 thousand vector steps keep a thread busy for a good part of a millisecond.
  const Index work = args.routes * (args.steps + 1) * plan.channels.task_blocks * (args.states + 4);
  const Index grain = greater(1, (Index{1} << 15) / greater(1, work));
  bool ok = true;
  const auto with_worker = [&](auto&& body) {
    void* memory = scratch.get(scratch.self, plan.scratch);
    if (memory == nullptr) {
      __atomic_store_n(&ok, false, __ATOMIC_RELAXED);
      return;
    }
    Forward<T> worker(args, plan, static_cast<float*>(workspace), static_cast<char*>(memory));
    body(worker);
    scratch.put(scratch.self, memory, plan.scratch);
  };
  parallel(plan.items(args), grain, [&](Index begin, Index end) {
    const FlushDenormals flush;
    with_worker([&](Forward<T>& worker) {
      for (Index item = begin; item < end; ++item) worker.run(item, end);
    });
  });
  if (plan.parts == 1 || args.y.data == nullptr || !ok) return ok;
  const Index tiles = ceil_div(args.steps, kTile);
  parallel(args.batch * tiles, 8, [&](Index begin, Index end) {
    with_worker([&](Forward<T>& worker) {
      for (Index i = begin; i < end; ++i) worker.combine(i / tiles, i % tiles);
    });
  });
  return ok;
}

}  // namespace

std::size_t selective_scan_workspace(const SelectiveScanArgs& args) {
  if (args.y.data == nullptr) return 0;
  const Plan plan = Plan::make(args);
  if (plan.parts > 1) {
    return static_cast<std::size_t>(plan.parts * args.batch * args.steps * args.channels) * sizeof(float);
  }
  if (plan.direct || args.type == dtype::f32) return 0;
  return static_cast<std::size_t>(args.batch * args.length * args.channels) * sizeof(float);
}

bool selective_scan_forward(const SelectiveScanArgs& args, Parallel parallel, ThreadScratch scratch, void* workspace) {
  MAMBASDK_SHARE_AVX512(args.type == dtype::bf16, selective_scan_forward(args, parallel, scratch, workspace));
  return with_own_type(args.type, [&]<class T>(T) { return forward<T>(args, parallel, scratch, workspace); });
}

}  // namespace mambasdk::MAMBASDK_ISA
