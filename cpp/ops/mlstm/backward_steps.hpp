// The derivative of mlstm in one chunk step by step, for where a value is not finite (steps.hpp). For *.isa.cpp only.
#pragma once

#include "ops/mlstm/backward_plan.hpp"
#include "ops/mlstm/steps.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

template <class T>
struct StepsBack {
  const HeadBack<T>& head;
  const Gates& gates;  // of make_step_gates
  Index begin;         // of the chunk
  double& grad_m;      // of m after the steps that are to be done

  // Steps [first, first + count) of the chunk from the last one back, from the state before them. The later half goes
  // first, from a state that is computed again: one state in `spare` for every halving, and no step's inverse.
  void run(const float* before, Index first, Index count, float* spare) const {
    if (count == 1) return step(before, first, spare);
    const Index half = count / 2, floats = head.plan.state();
    copy(spare, before);
    for (Index t = first; t < first + half; ++t) advance(spare, t);
    run(spare, first + half, count - half, spare + floats);
    run(before, first, half, spare);
  }

 private:
  void copy(float* to, const float* from) const {
    for (Index i = 0; i < head.plan.state(); i += kLanes) store(to + i, load(from + i));
  }
  float* row(Index rows, Index t) const { return head.at(rows) + t * head.plan.width; }
  void advance(float* state, Index t) const {
    step_state(state, head.plan, head.p.head_dim, gates.from_begin[t], gates.to_end[t], row(head.plan.k, t),
               row(head.plan.v, t));
  }

  void step(const float* before, Index t, float* after) const {
    const auto& plan = head.plan;
    static_assert(kLanes >= 4, "a chunk has scratch memory for four rows");
    float *y = row(plan.read, 0), *grad_q = row(plan.read, 1), *grad_k = row(plan.read, 2), *grad_v = row(plan.read, 3);
    const float *q = row(plan.q, t), *k = row(plan.k, t), *v = row(plan.v, t);
    float *u = row(plan.u, t), *grad_state = head.at(plan.grad_state);
    const float keep = gates.from_begin[t], take = gates.to_end[t];
    copy(after, before);
    advance(after, t);
    const float normaliser = read_step(y, plan, head.p.head_dim, after, q);
    const DivisionGrad division = divide_back(u, y, plan.width, normaliser, gates.least[t]);

    vf taken = zero(), kept = zero();  // the gradients of the logarithms of the two weights; of `keep`, without it
    const Index n = plan.width * plan.width;
    for (Index j = 0; j < plan.width; j += kLanes) {
      const vf slope = load(grad_state + n + j) + load(q + j) * division.normaliser;
      store(grad_q + j, load(after + n + j) * division.normaliser);
      store(grad_k + j, slope * take);
      store(grad_v + j, zero());
      taken += slope * take * load(k + j);
      kept += slope * load(before + n + j);
      store(grad_state + n + j, slope * keep);
    }
    for (Index j = 0; j < head.p.head_dim; ++j) {
      vf to_q = zero(), to_k = zero();
      for (Index e = 0; e < plan.width; e += kLanes) {
        const Index at = j * plan.width + e;
        const vf slope = load(grad_state + at) + load(u + e) * q[j], weighted = slope * take;
        to_q += load(u + e) * load(after + at);
        to_k += weighted * load(v + e);
        store(grad_v + e, load(grad_v + e) + weighted * k[j]);
        kept += slope * load(before + at);
        store(grad_state + at, slope * keep);
      }
      grad_q[j] += reduce_add(to_q);
      grad_k[j] += reduce_add(to_k);
      taken += to_k * k[j];
    }
    head.write(head.call.q, grad_q, plan.width, begin + t, 1, 1.0f);
    head.write(head.call.k, grad_k, plan.width, begin + t, 1, key_scale(head.p));
    head.write(head.call.v, grad_v, plan.width, begin + t, 1, 1.0f);

    double input = static_cast<double>(reduce_add(taken)), forget = static_cast<double>(keep * reduce_add(kept));
    grad_m += static_cast<double>(division.scale);
    if (gates.kept[t] != 0.0f) {
      forget += grad_m;
    } else {
      input += grad_m;
      grad_m = 0.0;
    }
    head.put_gates(begin + t, input, forget * static_cast<double>(gates.slope[t]));
  }
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
