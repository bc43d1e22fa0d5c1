// What the derivative of mlstm works in, and where one head of one sequence reads and writes. For *.isa.cpp only.
#pragma once

#include "ops/mlstm/gates.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using mlstm::Backward;

// Of each step of a chunk: sums of the gradients of logarithms of weights, all but that by m.
struct Sums {
  static constexpr Index kArrays = 7;
  float *rows, *columns;  // of the weights of other steps of the chunk: at this step, and of this step
  float* own;             // of its own weight at itself
  float* from_begin;      // of the weight of the state before the chunk
  float* to_end;          // of its weight in the state after the chunk
  float* normaliser;      // the gradient of the normaliser
  float* scale;           // the gradient by m of what is read: the epsilon's part

  Sums(float* memory, Index steps)
      : rows(memory),
        columns(memory + steps),
        own(memory + 2 * steps),
        from_begin(memory + 3 * steps),
        to_end(memory + 4 * steps),
        normaliser(memory + 5 * steps),
        scale(memory + 6 * steps) {}
};

// How many states a range of steps takes when it is halved until steps are alone.
MAMBASDK_SIMD Index halvings(Index steps) {
  Index states = 1;
  for (; steps > 1; steps = (steps + 1) / 2) ++states;
  return states;
}

// Scratch memory of a slot, in floats from its start.
struct Plan : Dims {
  Index chunks;
  Index q, k, v, u, turned, read, scores, grads, turned_square, turned_state, grad_state, gates, sums, starts, states,
      spare, size;

  explicit Plan(const Problem& p) : Dims(p), chunks((p.max_length + chunk_steps(p) - 1) / chunk_steps(p)) {
    size = 0;
    const auto take = [&](Index floats) {
      const Index at = size;
      size += round_up(floats, 16);
      return at;
    };
    q = take(steps * width);
    k = take(steps * width);
    v = take(steps * width);
    u = take(steps * width);
    turned = take(width * steps);
    read = take(steps * width);
    scores = take(steps * steps);
    grads = take(steps * steps);
    turned_square = take(steps * steps);
    turned_state = take(width * width);
    grad_state = take(state());
    gates = take(Gates::kArrays * steps);
    sums = take(Sums::kArrays * steps);
    starts = take(2 * (chunks + 1));
    states = take((chunks + 1) * state());
    spare = take(halvings(chunk_steps(p)) * state());
  }
};

// Of one step's division.
struct DivisionGrad {
  float normaliser, scale;  // as in Sums
};
// u, of `width`, is the gradient of h and becomes that of y.
MAMBASDK_SIMD DivisionGrad divide_back(float* u, const float* y, Index width, float normaliser, float least) {
  const Divisor divisor(normaliser, least);
  const float grad = -(dot(u, y, width) / divisor.value) / divisor.value;
  for (Index j = 0; j < width; j += kLanes) store(u + j, load(u + j) / divisor.value);
  return {!divisor.normal ? 0.0f : normaliser < 0.0f ? -grad : grad, grad * static_cast<float>(mlstm::kEpsilon)};
}

// One head of one sequence.
template <class T>
struct HeadBack {
  const Backward& call;
  const Problem& p;
  const Plan& plan;
  float* scratch;
  const Sequence& sequence;
  Index s, head;

  float* at(Index place) const { return scratch + place; }
  float* state(Index chunk) const { return at(plan.states) + chunk * plan.state(); }
  double& start(Index chunk) const { return reinterpret_cast<double*>(at(plan.starts))[chunk]; }  // m before it

  // Index of a step in a contiguous (B,L,H).
  Index out(Index t) const { return (sequence.batch * p.length + sequence.begin + t) * p.heads + head; }

  void write(void* to, const float* rows, Index width, Index begin, Index count, float scale) const {
    if (to == nullptr) return;
    for (Index t = 0; t < count; ++t) {
      T* row = static_cast<T*>(to) + out(begin + t) * p.head_dim;
      for (Index j = 0; j < p.head_dim; j += kLanes)
        store_n(row + j, load(rows + t * width + j) * scale, static_cast<int>(min64(kLanes, p.head_dim - j)));
    }
  }

  // Gradients of the gates of step t.
  void put_gates(Index t, double input, double forget) const {
    with_type(p.gate_type, [&]<class G>(G) {
      if (call.igate != nullptr) static_cast<G*>(call.igate)[out(t)] = from_float<G>::cast(static_cast<float>(input));
      if (call.fgate != nullptr) static_cast<G*>(call.fgate)[out(t)] = from_float<G>::cast(static_cast<float>(forget));
    });
  }
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
