// mlstm, forward (arXiv 2405.04517), by chunks: h = weights o (q k^T) v within a chunk, and q C of the state before it.
#include "ops/mlstm/products.hpp"
#include "ops/mlstm/state.hpp"
#include "ops/mlstm/steps.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using mlstm::Forward;

// Scratch memory of a slot, in floats from its start.
struct Plan : Dims {
  Index q, k, turned, v, scores, read, memory, gates, size;

  explicit Plan(const Problem& p) : Dims(p) {
    size = 0;
    const auto take = [&](Index floats) {
      const Index at = size;
      size += round_up(floats, 16);
      return at;
    };
    q = take(steps * width);
    k = take(steps * width);
    turned = take(width * steps);
    v = take(steps * width);
    scores = take(steps * steps);
    read = take(steps * width);
    memory = take(state());
    gates = take(Gates::kArrays * steps);
  }
};

template <class T>
struct HeadScan {
  const Forward& call;
  const Problem& p;
  const Plan& plan;
  float* scratch;

  float* at(Index place) const { return scratch + place; }

  // Steps [begin, begin + count); `empty`: the state before them is zero, `last`: nobody needs the one after.
  void chunk(const Sequence& sequence, Index head, Index begin, Index count, bool empty, bool last,
             Gates& gates) const {
    const double before = gates.m;
    make_gates(gates, p, plan, sequence, head, begin, count);
    float *q = at(plan.q), *k = at(plan.k), *turned = at(plan.turned), *v = at(plan.v), *scores = at(plan.scores);
    float *read = at(plan.read), *state = at(plan.memory);
    read_rows<T>(q, plan.width, plan.steps, p, p.q, sequence, head, begin, count, 1.0f);
    read_rows<T>(k, plan.width, plan.steps, p, p.k, sequence, head, begin, count, key_scale(p));
    read_rows<T>(v, plan.width, plan.steps, p, p.v, sequence, head, begin, count, 1.0f);
    if (__builtin_expect(!gates.finite, 0)) return steps(sequence, head, begin, count, before, gates);
    transpose(turned, plan.steps, k, plan.width, plan.steps, plan.width);
    triangle(scores, q, plan.width, turned, plan.steps, p.head_dim);
    weigh(scores, gates, plan, q, state, count);
    if (!empty) {
      product<FloatCells>(read, plan.width, q, plan.width, state, plan.width, plan.steps, plan.width, p.head_dim,
                          false);
      scale_rows(read, plan.width, count, plan.width, gates.from_begin);
    }
    lower_product(read, plan.width, scores, plan.steps, v, plan.width, plan.steps, plan.width, !empty);
    // Every input and the state are factors or terms of these: they are not finite where one of them is not.
    if (__builtin_expect(!is_finite(read, count * plan.width) || !is_finite(gates.normaliser, plan.steps), 0))
      return steps(sequence, head, begin, count, before, gates);
    write(sequence, head, begin, count, gates);
    if (last) return;
    scale_columns(turned, plan.steps, plan.width, plan.steps, gates.to_end);
    carry(state, plan, gates.through, turned, v, k, gates.to_end, nullptr, count);
  }

  // The same step by step, of the rows that were read.
  void steps(const Sequence& sequence, Index head, Index begin, Index count, double before, Gates& gates) const {
    make_step_gates(gates, plan, before, count);
    for (Index t = 0; t < count; ++t) {
      const Index row = t * plan.width;
      step_state(at(plan.memory), plan, p.head_dim, gates.from_begin[t], gates.to_end[t], at(plan.k) + row,
                 at(plan.v) + row);
      gates.normaliser[t] = read_step(at(plan.read) + row, plan, p.head_dim, at(plan.memory), at(plan.q) + row);
    }
    write(sequence, head, begin, count, gates);
  }

  void write(const Sequence& sequence, Index head, Index begin, Index count, const Gates& gates) const {
    for (Index t = 0; t < count; ++t) {
      const float* row = at(plan.read) + t * plan.width;
      const Divisor divisor(gates.normaliser[t], gates.least[t]);
      T* h = static_cast<T*>(call.h) +
             ((sequence.batch * p.length + sequence.begin + begin + t) * p.heads + head) * p.head_dim;
      for (Index j = 0; j < p.head_dim; j += kLanes)
        store_n(h + j, load(row + j) / divisor.value, static_cast<int>(min64(kLanes, p.head_dim - j)));
    }
  }

  void run(Index s, Index head) const {
    const Sequence& sequence = p.sequences[s];
    Gates gates(at(plan.gates), plan.steps);
    gates.m = read_state(at(plan.memory), plan, p, {p.C, p.n, p.m}, s, head, mlstm::kNoMaximum);
    const Index most = chunk_steps(p);
    const bool wants_state = call.final.C != nullptr || call.final.n != nullptr || call.final.m != nullptr;
    for (Index begin = 0; begin < sequence.length; begin += most) {
      const bool last = begin + most >= sequence.length && !wants_state;
      chunk(sequence, head, begin, min64(most, sequence.length - begin), begin == 0 && p.C.data == nullptr, last,
            gates);
    }
    write_state(call.final, plan, p, s, head, at(plan.memory), gates.m);
  }
};

}  // namespace

std::int64_t mlstm_workspace_bytes(const Forward& call) {
  return Plan(call.problem).size * slot_count(call.problem) * static_cast<Index>(sizeof(float));
}

void mlstm_forward(const Forward& call, void* workspace, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(call.problem.type == dtype::bf16, mlstm_forward(call, workspace, parallel));
  with_own_type(call.problem.type, [&]<class T>(T) {
    const Plan plan(call.problem);
    for_each_head(call.problem, parallel, [&](Index s, Index head, Index slot) {
      HeadScan<T>{call, call.problem, plan, static_cast<float*>(workspace) + slot * plan.size}.run(s, head);
    });
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
