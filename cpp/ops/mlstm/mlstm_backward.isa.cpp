// The derivative of mlstm by chunks, from the last one back; the states before them are computed again first.
//
// With the values' extra column of ones (chunk.hpp), the sums before the division are y = A o (q k^T) v + a o (q S) for
// the weights A of the chunk's steps and a of the state S before it. u is the gradient of y: what is the values' in u,
// what is the normaliser's in Sums. The gates follow from the gradients of the logarithms of the weights, which are
// those of the weights times the weights. Sums of them are taken within the chunk, so that what is lost in their
// differences does not grow with the length.
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
    sums = take(7 * steps);
    starts = take(2 * (chunks + 1));
    states = take((chunks + 1) * state());
  }
};

// Of each step of a chunk: sums of the gradients of logarithms of weights, all but that by m.
struct Sums {
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
    const vf normaliser = set1(sums.normaliser[t]);
    sums.own[t] = (grads[t * steps + t] + sums.normaliser[t]) * scores[t * steps + t];
    vf row = zero();
    for (Index s = 0; s <= t; s += kLanes) {
      vi early;
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) early[i] = static_cast<std::int32_t>(s) + i;
      const vf grad = load(grads + t * steps + s) + normaliser, w = weights_at(gates, t, s);
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
  float* state(Index chunk) const { return at(plan.states) + chunk * plan.state(); }
  double& start(Index chunk) const { return reinterpret_cast<double*>(at(plan.starts))[chunk]; }  // m before it

  void read(Index begin, Index count) const {
    read_rows<T>(at(plan.k), plan.width, plan.steps, p, p.k, sequence, head, begin, count, key_scale(p));
    read_rows<T>(at(plan.v), plan.width, plan.steps, p, p.v, sequence, head, begin, count, 1.0f);
  }

  // The state after a chunk from that before it.
  void advance(Index chunk, Index begin, Index count, Gates& gates) const {
    gates.m = start(chunk);
    make_gates(gates, p, plan, sequence, head, begin, count);
    read(begin, count);
    transpose(at(plan.turned), plan.steps, at(plan.k), plan.width, plan.steps, plan.width);
    scale_columns(at(plan.turned), plan.steps, plan.width, plan.steps, gates.to_end);
    for (Index i = 0; i < plan.state(); i += kLanes) store(state(chunk + 1) + i, load(state(chunk) + i));
    carry(state(chunk + 1), plan, gates.through, at(plan.turned), at(plan.v), at(plan.k), gates.to_end, nullptr, count);
    start(chunk + 1) = gates.m;
  }

  // u, from the gradient of h and what was read.
  void divide(const Gates& gates, const Sums& sums, Index count) const {
    for (Index t = 0; t < plan.steps; t += kLanes) store(sums.normaliser + t, zero());
    for (Index t = 0; t < count; ++t) {
      float *u = at(plan.u) + t * plan.width, *y = at(plan.read) + t * plan.width;
      const float normaliser = gates.normaliser[t], size = __builtin_fabsf(normaliser), least = gates.least[t];
      const float divisor = (size > least ? size : least) + static_cast<float>(mlstm::kEpsilon);
      const float grad_divisor = -(dot(u, y, plan.width) / divisor) / divisor;
      for (Index j = 0; j < plan.width; j += kLanes) store(u + j, load(u + j) / divisor);
      sums.normaliser[t] = !(size > least) ? 0.0f : normaliser < 0.0f ? -grad_divisor : grad_divisor;
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

  // row = scale (row + factor n), and its product with `with`.
  float through_state(float* row, const float* with, const float* n, float factor, float scale) const {
    vf sum = zero();
    for (Index j = 0; j < plan.width; j += kLanes) {
      const vf value = (load(row + j) + load(n + j) * factor) * scale;
      store(row + j, value);
      sum += value * load(with + j);
    }
    return reduce_add(sum);
  }

  void grad_queries(Index chunk, Index begin, Index count, const Gates& gates, const Sums& sums) const {
    float *to = at(plan.read), *turned = at(plan.turned_state);
    transpose(turned, plan.width, state(chunk), plan.width, plan.width, plan.width);
    product<FloatCells>(to, plan.width, at(plan.u), plan.width, turned, plan.width, plan.steps, plan.width, p.head_dim,
                        false);
    for (Index t = 0; t < count; ++t)
      sums.from_begin[t] =
          through_state(to + t * plan.width, at(plan.q) + t * plan.width, state(chunk) + plan.width * plan.width,
                        sums.normaliser[t], gates.from_begin[t]);
    lower_product(to, plan.width, at(plan.grads), plan.steps, at(plan.k), plan.width, plan.steps, plan.width, true);
    write(call.q, to, plan.width, begin, count, 1.0f);
  }

  void grad_keys(Index begin, Index count, const Gates& gates, const Sums& sums) const {
    float *to = at(plan.read), *turned = at(plan.turned_state), *square = at(plan.turned_square);
    transpose(turned, plan.width, at(plan.grad_state), plan.width, plan.width, plan.width);
    product<FloatCells>(to, plan.width, at(plan.v), plan.width, turned, plan.width, plan.steps, plan.width, p.head_dim,
                        false);
    for (Index t = 0; t < count; ++t)
      sums.to_end[t] = through_state(to + t * plan.width, at(plan.k) + t * plan.width,
                                     at(plan.grad_state) + plan.width * plan.width, 1.0f, gates.to_end[t]);
    transpose(square, plan.steps, at(plan.grads), plan.steps, plan.steps, plan.steps);
    add_upper_product(to, plan.width, square, plan.steps, at(plan.q), plan.width, count, plan.width);
    write(call.k, to, plan.width, begin, count, key_scale(p));
  }

  void grad_values(Index begin, Index count, const Gates& gates) const {
    float *to = at(plan.read), *square = at(plan.turned_square);
    product<FloatCells>(to, plan.width, at(plan.k), plan.width, at(plan.grad_state), plan.width, plan.steps, plan.width,
                        p.head_dim, false);
    scale_rows(to, plan.width, count, plan.width, gates.to_end);
    transpose(square, plan.steps, at(plan.scores), plan.steps, plan.steps, plan.steps);
    add_upper_product(to, plan.width, square, plan.steps, at(plan.u), plan.width, count, plan.width);
    write(call.v, to, plan.width, begin, count, 1.0f);
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
    read_rows<T>(q, plan.width, plan.steps, p, p.q, sequence, head, begin, count, 1.0f);
    read_rows<T>(u, plan.width, plan.steps, p, call.grad_h, sequence, head, begin, count, 1.0f);
    transpose(turned, plan.steps, at(plan.k), plan.width, plan.steps, plan.width);
    triangle(scores, q, plan.width, turned, plan.steps, p.head_dim);
    weigh(scores, gates, plan, q, state(chunk), count);
    product<FloatCells>(y, plan.width, q, plan.width, state(chunk), plan.width, plan.steps, plan.width, p.head_dim,
                        false);
    scale_rows(y, plan.width, count, plan.width, gates.from_begin);
    lower_product(y, plan.width, scores, plan.steps, at(plan.v), plan.width, plan.steps, plan.width, true);
    divide(gates, sums, count);
    transpose(turned, plan.steps, at(plan.v), plan.width, plan.steps, plan.width);
    triangle(grads, u, plan.width, turned, plan.steps, p.head_dim);
    weigh_grads(grads, scores, gates, sums, plan.steps);
    grad_queries(chunk, begin, count, gates, sums);
    grad_keys(begin, count, gates, sums);
    grad_values(begin, count, gates);
    const double through = static_cast<double>(gates.through * dot(grad_state, state(chunk), plan.state()));
    grad_gates(begin, count, gates, sums, through, grad_m);
    transpose(turned, plan.steps, q, plan.width, plan.steps, plan.width);
    scale_columns(turned, plan.steps, plan.width, plan.steps, gates.from_begin);
    carry(grad_state, plan, gates.through, turned, u, q, gates.from_begin, sums.normaliser, count);
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
      HeadBack<T>{call, p, plan, static_cast<float*>(workspace) + slot * plan.size, p.sequences[s], s, head}.run();
    });
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
