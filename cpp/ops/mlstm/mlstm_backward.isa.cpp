// The derivative of mlstm by chunks, from the last one back; the states before them are computed again first.
#include "ops/mlstm/backward_chunk.hpp"
#include "ops/mlstm/state.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// The gradient by m of a state in its units: minus its product with that of the state.
__attribute__((noinline)) double product_sum(const float* a, const float* b, Index n) {
  double sum = 0.0;
  for (Index i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

template <class T>
struct SequenceBack : ChunkBack<T> {
  using HeadBack<T>::call, HeadBack<T>::p, HeadBack<T>::plan, HeadBack<T>::sequence, HeadBack<T>::s, HeadBack<T>::head;
  using HeadBack<T>::at, HeadBack<T>::state, HeadBack<T>::start, ChunkBack<T>::read, ChunkBack<T>::back;

  // The state after a chunk from that before it.
  void advance(Index chunk, Index begin, Index count, Gates& gates) const {
    gates.m = start(chunk);
    make_gates(gates, p, plan, sequence, head, begin, count);
    read(begin, count);
    float* after = state(chunk + 1);
    for (Index i = 0; i < plan.state(); i += kLanes) store(after + i, load(state(chunk) + i));
    if (__builtin_expect(gates.finite, 1)) {
      transpose(at(plan.turned), plan.steps, at(plan.k), plan.width, plan.steps, plan.width);
      scale_columns(at(plan.turned), plan.steps, plan.width, plan.steps, gates.to_end);
      carry(after, plan, gates.through, at(plan.turned), at(plan.v), at(plan.k), gates.to_end, nullptr, count);
    } else {
      make_step_gates(gates, plan, start(chunk), count);
      for (Index t = 0; t < count; ++t)
        step_state(after, plan, p.head_dim, gates.from_begin[t], gates.to_end[t], at(plan.k) + t * plan.width,
                   at(plan.v) + t * plan.width);
    }
    start(chunk + 1) = gates.m;
  }

  void run() const {
    const Index most = chunk_steps(p), chunks = (sequence.length + most - 1) / most;
    const Index floats = plan.state();
    Gates gates(at(plan.gates), plan.steps);
    const Sums sums(at(plan.sums), plan.steps);
    const auto steps_of = [&](Index chunk) { return min64(most, sequence.length - chunk * most); };
    start(0) = read_state(state(0), plan, p, {p.C, p.n, p.m}, s, head, mlstm::kNoMaximum);
    // The last state is for the units of its own gradient alone.
    const bool is_read = call.grad_C.data != nullptr || call.grad_n.data != nullptr;
    for (Index chunk = 0; chunk + (is_read ? 0 : 1) < chunks; ++chunk)
      advance(chunk, chunk * most, steps_of(chunk), gates);
    double grad_m = read_state(at(plan.grad_state), plan, p, {call.grad_C, call.grad_n, call.grad_m}, s, head, 0.0);
    if (is_read) grad_m -= product_sum(state(chunks), at(plan.grad_state), floats);
    for (Index chunk = chunks - 1; chunk >= 0; --chunk) back(chunk, chunk * most, steps_of(chunk), gates, sums, grad_m);
    grad_m += product_sum(state(0), at(plan.grad_state), floats);
    write_state(call.initial, plan, p, s, head, at(plan.grad_state), grad_m);
  }
};

}  // namespace

std::int64_t mlstm_backward_workspace_bytes(const Backward& call) {
  return Plan(call.problem).size * slot_count(call.problem) * static_cast<Index>(sizeof(float));
}

void mlstm_backward(const Backward& call, void* workspace, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(call.problem.type == dtype::bf16, mlstm_backward(call, workspace, parallel));
  with_own_type(call.problem.type, [&]<class T>(T) {
    const Problem& p = call.problem;
    const Plan plan(p);
    for_each_head(p, parallel, [&](Index s, Index head, Index slot) {
      SequenceBack<T>{{{call, p, plan, static_cast<float*>(workspace) + slot * plan.size, p.sequences[s], s, head}}}
          .run();
    });
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
