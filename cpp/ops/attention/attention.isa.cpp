// attention over blocks of queries: tasks of their own, which share nothing.
#include "ops/attention/attention_args.hpp"

#include "core/simd_types.hpp"
#include "ops/attention/attention_block.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

struct Tasks {
  Index blocks, count, slots;  // blocks of a group of heads, of all of them; groups of tasks

  explicit Tasks(const Args& a) {
    blocks = (a.queries * (a.heads / a.groups) + kRowLanes - 1) / kRowLanes;
    count = a.batch * a.groups * blocks;
    slots = min64(count, kMaxSlots);
  }
};

template <class T>
[[gnu::noinline]] void run_block(const Args& a, const BlockPlan& plan, float* scratch, Index b, Index g, Index r0) {
  const Index rows = a.queries * (a.heads / a.groups) - r0;
  if (rows <= kLanes) return QueryBlock<T, 1>(a, plan, scratch, b, g, r0).run();
  if constexpr (kRowVectors > 2) {
    if (rows > 2 * kLanes) return QueryBlock<T, kRowVectors>(a, plan, scratch, b, g, r0).run();
  }
  QueryBlock<T, 2>(a, plan, scratch, b, g, r0).run();
}

}  // namespace

std::int64_t attention_workspace_bytes(const Args& a) {
  return Tasks(a).slots * BlockPlan(a).size * static_cast<Index>(sizeof(float));
}

void attention(const Args& a, void* workspace, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.type == dtype::bf16, attention(a, workspace, parallel));
  const Tasks tasks(a);
  const BlockPlan plan(a);
  auto* scratch = static_cast<float*>(workspace);
  parallel(tasks.slots, 1, [&](Index begin, Index end) {
    const Index last = end * tasks.count / tasks.slots;
    for (Index t = begin * tasks.count / tasks.slots; t < last; ++t) {
      const Index head = t / tasks.blocks, i = t % tasks.blocks;
      // From both ends in turn: where causal, late blocks see more keys, and every range of tasks has of both.
      const Index block = i % 2 == 0 ? i / 2 : tasks.blocks - 1 - i / 2;
      with_own_type(a.type, [&]<class T>(T) {
        run_block<T>(a, plan, scratch + begin * plan.size, head / a.groups, head % a.groups, block * kRowLanes);
      });
    }
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
