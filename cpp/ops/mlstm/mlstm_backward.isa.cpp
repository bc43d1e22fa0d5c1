// The derivative of mlstm by chunks, from the last one back; the states before them are computed again first.
//
// With the values' extra column of ones (chunk.hpp), the sums before the division are y = A o (q k^T) v + a o (q S) for
// the weights A of the chunk's steps and a of the state S before it. u is the gradient of y; the gates follow from the
// gradients of the logarithms of the weights, which are those of the weights times the weights. Sums of them are taken
// within the chunk, so that what is lost in their differences does not grow with the length.
#include "ops/mlstm/chunk.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using mlstm::Backward;

// Scratch memory of a slot, in floats from its start.
struct Plan : Dims {
  Index chunks;
  Index q, k, v, u, turned, read, scores, grads, turned_square, turned_state, grad_state, gates, sums, starts, states,
      size;

  explicit Plan(const Problem& p) : Dims(p), chunks((p.max_length + chunk_steps(p) - 1) / chunk_steps(p)) {
    size = 0;
    const auto take = [&](Index floats) {
      const Index at = size;
      size += round_up(floats, 16);
      return at;
    };
    q = take(steps * keys);
    k = take(steps * keys);
    v = take(steps * values);
    u = take(steps * values);
    turned = take(values * steps);
    read = take(steps * values);
    scores = take(steps * steps);
    grads = take(steps * steps);
    turned_square = take(steps * steps);
    turned_state = take(values * keys);
    grad_state = take(keys * values);
    gates = take(Gates::kArrays * steps);
    sums = take(6 * steps);
    starts = take(2 * (chunks + 1));
    states = take((chunks + 1) * keys * values);
  }
};

// Of each step of a chunk: sums of the gradients of logarithms of weights, all but that by m.
struct Sums {
  float *rows, *columns;  // of the weights of other steps of the chunk: at this step, and of this step
  float* own;             // of its own weight at itself
  float* from_begin;      // of the weight of the state before the chunk
  float* to_end;          // of its weight in the state after the chunk
  float* scale;           // the gradient by m of what is read: the epsilon's part

  Sums(float* memory, Index steps)
      : rows(memory),
        columns(memory + steps),
        own(memory + 2 * steps),
        from_begin(memory + 3 * steps),
        to_end(memory + 4 * steps),
        scale(memory + 5 * steps) {}
};

MAMBASDK_SIMD float dot(const float* a, const float* b, Index n) {
  vf sum = zero();
  for (Index i = 0; i < n; i += kLanes) sum += load(a + i) * load(b + i);
  return reduce_add(sum);
}

// The gradient by m of a state in its units: minus its product with that of the state.
__attribute__((noinline)) double product_sum(const float* a, const float* b, Index n) {
  double sum = 0.0;
  for (Index i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// From the gradients of scores before their weights' part, (steps,steps), to those of q k^T.
__attribute__((noinline)) void weigh_grads(float* grads, const float* scores, const Gates& gates, const Sums& sums,
                                           Index steps) {
  for (Index t = 0; t < steps; t += kLanes) store(sums.columns + t, zero());
  for (Index t = 0; t < steps; ++t) {
    sums.own[t] = grads[t * steps + t] * scores[t * steps + t];
    vf row = zero();
    for (Index s = 0; s <= t; s += kLanes) {
      vi early;
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) early[i] = static_cast<std::int32_t>(s) + i;
      const vf grad = load(grads + t * steps + s), w = weights_at(gates, t, s);
      const vf part = select(early < static_cast<std::int32_t>(t), grad * load(scores + t * steps + s), zero());
      row += part;
      store(sums.columns + s, load(sums.columns + s) + part);
      store(grads + t * steps + s, select(early <= static_cast<std::int32_t>(t), grad * w, zero()));
    }
    sums.rows[t] = reduce_add(row);
  }
}

template <class T>
struct HeadBack {
  const Backward& call;
  const Problem& p;
  const Plan& plan;
  float* scratch;
  const Sequence& sequence;
  Index s, head;

  float* at(Index place) const { return scratch + place; }
  float* state(Index chunk) const { return at(plan.states) + chunk * plan.keys * plan.values; }
  double& start(Index chunk) const { return reinterpret_cast<double*>(at(plan.starts))[chunk]; }  // m before it

  void read(Index begin, Index count) const {
    read_rows<T>(at(plan.k), plan.keys, plan.steps, p, p.k, sequence, head, begin, count, key_scale(p), 0.0f);
    read_rows<T>(at(plan.v), plan.values, plan.steps, p, p.v, sequence, head, begin, count, 1.0f, 1.0f);
  }

  // The state after a chunk from that before it.
  void advance(Index chunk, Index begin, Index count, Gates& gates) const {
    gates.m = start(chunk);
    make_gates(gates, p, plan, sequence, head, begin, count);
    read(begin, count);
    transpose(at(plan.turned), plan.steps, at(plan.k), plan.keys, plan.steps, plan.keys);
    scale_columns(at(plan.turned), plan.steps, plan.keys, plan.steps, gates.to_end);
    for (Index i = 0; i < plan.keys * plan.values; i += kLanes) store(state(chunk + 1) + i, load(state(chunk) + i));
    carry(state(chunk + 1), plan, gates.through, at(plan.turned), at(plan.v), count);
    start(chunk + 1) = gates.m;
  }

  // u, from the gradient of h and what was read.
  void divide(const Gates& gates, const Sums& sums, Index count) const {
    for (Index t = 0; t < count; ++t) {
      float *u = at(plan.u) + t * plan.values, *y = at(plan.read) + t * plan.values;
      const float normaliser = y[p.head_dim], size = __builtin_fabsf(normaliser), least = gates.least[t];
      const float divisor = (size > least ? size : least) + static_cast<float>(mlstm::kEpsilon);
      const float grad_divisor = -(dot(u, y, plan.values) / divisor) / divisor;
      for (Index j = 0; j < plan.values; j += kLanes) store(u + j, load(u + j) / divisor);
      u[p.head_dim] = !(size > least) ? 0.0f : normaliser < 0.0f ? -grad_divisor : grad_divisor;
      sums.scale[t] = grad_divisor * static_cast<float>(mlstm::kEpsilon);
    }
  }

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

  void grad_queries(Index chunk, Index begin, Index count, const Gates& gates, const Sums& sums) const {
    float *to = at(plan.read), *turned = at(plan.turned_state);
    transpose(turned, plan.keys, state(chunk), plan.values, plan.keys, plan.values);
    product<FloatCells>(to, plan.keys, at(plan.u), plan.values, turned, plan.keys, plan.steps, plan.keys, plan.values,
                        false);
    scale_rows(to, plan.keys, count, plan.keys, gates.from_begin);
    for (Index t = 0; t < count; ++t)
      sums.from_begin[t] = dot(to + t * plan.keys, at(plan.q) + t * plan.keys, plan.keys);
    lower_product(to, plan.keys, at(plan.grads), plan.steps, at(plan.k), plan.keys, plan.steps, plan.keys, true);
    write(call.q, to, plan.keys, begin, count, 1.0f);
  }

  void grad_keys(Index begin, Index count, const Gates& gates, const Sums& sums) const {
    float *to = at(plan.read), *turned = at(plan.turned_state), *square = at(plan.turned_square);
    transpose(turned, plan.keys, at(plan.grad_state), plan.values, plan.keys, plan.values);
    product<FloatCells>(to, plan.keys, at(plan.v), plan.values, turned, plan.keys, plan.steps, plan.keys, plan.values,
                        false);
    scale_rows(to, plan.keys, count, plan.keys, gates.to_end);
    for (Index t = 0; t < count; ++t) sums.to_end[t] = dot(to + t * plan.keys, at(plan.k) + t * plan.keys, plan.keys);
    transpose(square, plan.steps, at(plan.grads), plan.steps, plan.steps, plan.steps);
    add_upper_product(to, plan.keys, square, plan.steps, at(plan.q), plan.keys, count, plan.keys);
    write(call.k, to, plan.keys, begin, count, key_scale(p));
  }

  void grad_values(Index begin, Index count, const Gates& gates) const {
    float *to = at(plan.read), *square = at(plan.turned_square);
    product<FloatCells>(to, plan.values, at(plan.k), plan.keys, at(plan.grad_state), plan.values, plan.steps,
                        plan.values, plan.keys, false);
    scale_rows(to, plan.values, count, plan.values, gates.to_end);
    transpose(square, plan.steps, at(plan.scores), plan.steps, plan.steps, plan.steps);
    add_upper_product(to, plan.values, square, plan.steps, at(plan.u), plan.values, count, plan.values);
    write(call.v, to, plan.values, begin, count, 1.0f);
  }

  // grad_m is that of m after the chunk and becomes that before it.
  void grad_gates(Index begin, Index count, const Gates& gates, const Sums& sums, double through,
                  double& grad_m) const {
    double later = 0.0, earlier = 0.0;  // of weights that end at this step or later; that begin before it
    for (Index t = 0; t < count; ++t) earlier += static_cast<double>(sums.to_end[t]);
    with_type(p.gate_type, [&]<class G>(G) {
      for (Index t = count - 1; t >= 0; --t) {
        earlier -= static_cast<double>(sums.to_end[t]);
        later += static_cast<double>(sums.rows[t]) - static_cast<double>(sums.columns[t]) +
                 static_cast<double>(sums.from_begin[t]);
        double forget = later + earlier + through;
        double input = static_cast<double>(sums.columns[t]) + static_cast<double>(sums.own[t]) +
                       static_cast<double>(sums.to_end[t]);
        grad_m += static_cast<double>(sums.scale[t]);
        if (gates.kept[t] != 0.0f) {
          forget += grad_m;
        } else {
          input += grad_m;
          grad_m = 0.0;
        }
        const Index to = out(begin + t);
        if (call.igate != nullptr) static_cast<G*>(call.igate)[to] = from_float<G>::cast(static_cast<float>(input));
        if (call.fgate != nullptr)
          static_cast<G*>(call.fgate)[to] =
              from_float<G>::cast(static_cast<float>(forget * static_cast<double>(gates.slope[t])));
      }
    });
  }

  void back(Index chunk, Index begin, Index count, Gates& gates, const Sums& sums, double& grad_m) const {
    float *q = at(plan.q), *turned = at(plan.turned), *y = at(plan.read), *scores = at(plan.scores);
    float *u = at(plan.u), *grads = at(plan.grads), *grad_state = at(plan.grad_state);
    gates.m = start(chunk);
    make_gates(gates, p, plan, sequence, head, begin, count);
    read(begin, count);
    read_rows<T>(q, plan.keys, plan.steps, p, p.q, sequence, head, begin, count, 1.0f, 0.0f);
    read_rows<T>(u, plan.values, plan.steps, p, call.grad_h, sequence, head, begin, count, 1.0f, 0.0f);
    transpose(turned, plan.steps, at(plan.k), plan.keys, plan.steps, plan.keys);
    triangle(scores, q, plan.keys, turned, plan.steps, plan.keys);
    weigh(scores, gates, plan.steps);
    product<FloatCells>(y, plan.values, q, plan.keys, state(chunk), plan.values, plan.steps, plan.values, plan.keys,
                        false);
    scale_rows(y, plan.values, count, plan.values, gates.from_begin);
    lower_product(y, plan.values, scores, plan.steps, at(plan.v), plan.values, plan.steps, plan.values, true);
    divide(gates, sums, count);
    transpose(turned, plan.steps, at(plan.v), plan.values, plan.steps, plan.values);
    triangle(grads, u, plan.values, turned, plan.steps, plan.values);
    weigh_grads(grads, scores, gates, sums, plan.steps);
    grad_queries(chunk, begin, count, gates, sums);
    grad_keys(begin, count, gates, sums);
    grad_values(begin, count, gates);
    const double through = static_cast<double>(gates.through * dot(grad_state, state(chunk), plan.keys * plan.values));
    grad_gates(begin, count, gates, sums, through, grad_m);
    transpose(turned, plan.steps, q, plan.keys, plan.steps, plan.keys);
    scale_columns(turned, plan.steps, plan.keys, plan.steps, gates.from_begin);
    carry(grad_state, plan, gates.through, turned, u, count);
  }

  void run() const {
    const Index most = chunk_steps(p), chunks = (sequence.length + most - 1) / most;
    const Index floats = plan.keys * plan.values;
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
      HeadBack<T>{call, p, plan, static_cast<float*>(workspace) + slot * plan.size, p.sequences[s], s, head}.run();
    });
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
