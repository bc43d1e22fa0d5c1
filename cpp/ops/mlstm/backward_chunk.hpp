// The derivative of mlstm in one chunk, by matrix products. For *.isa.cpp only.
//
// With the values' extra column of ones (state.hpp), the sums before the division are y = A o (q k^T) v + a o (q S) for
// the weights A of the chunk's steps and a of the state S before it. u is the gradient of y: what is the values' in u,
// what is the normaliser's in Sums. The gates follow from the gradients of the logarithms of the weights, which are
// those of the weights times the weights. Sums of them are taken within the chunk, so that what is lost in their
// differences does not grow with the length.
#pragma once

#include "ops/mlstm/backward_steps.hpp"
#include "ops/mlstm/products.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

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
struct ChunkBack : HeadBack<T> {
  using HeadBack<T>::call, HeadBack<T>::p, HeadBack<T>::plan, HeadBack<T>::sequence, HeadBack<T>::head;
  using HeadBack<T>::at, HeadBack<T>::state, HeadBack<T>::start, HeadBack<T>::write, HeadBack<T>::put_gates;

  void read(Index begin, Index count) const {
    read_rows<T>(at(plan.k), plan.width, plan.steps, p, p.k, sequence, head, begin, count, key_scale(p));
    read_rows<T>(at(plan.v), plan.width, plan.steps, p, p.v, sequence, head, begin, count, 1.0f);
  }

  void read_grad(Index begin, Index count) const {
    read_rows<T>(at(plan.u), plan.width, plan.steps, p, call.grad_h, sequence, head, begin, count, 1.0f);
  }

  // u, from the gradient of h and what was read.
  void divide(const Gates& gates, const Sums& sums, Index count) const {
    for (Index t = 0; t < count; ++t) {
      const DivisionGrad grad = divide_back(at(plan.u) + t * plan.width, at(plan.read) + t * plan.width, plan.width,
                                            gates.normaliser[t], gates.least[t]);
      sums.normaliser[t] = grad.normaliser;
      sums.scale[t] = grad.scale;
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
    for (Index t = count - 1; t >= 0; --t) {
      earlier -= static_cast<double>(sums.to_end[t]);
      later += static_cast<double>(sums.rows[t]) - static_cast<double>(sums.columns[t]) +
               static_cast<double>(sums.from_begin[t]);
      double forget = later + earlier + through;
      double input =
          static_cast<double>(sums.columns[t]) + static_cast<double>(sums.own[t]) + static_cast<double>(sums.to_end[t]);
      grad_m += static_cast<double>(sums.scale[t]);
      if (gates.kept[t] != 0.0f) {
        forget += grad_m;
      } else {
        input += grad_m;
        grad_m = 0.0;
      }
      put_gates(begin + t, input, forget * static_cast<double>(gates.slope[t]));
    }
  }

  // By products; grad_m is that of m after the chunk and becomes that before it, and grad_state likewise. Whether
  // all is finite: else there is nothing of use in the outputs of the chunk, and the two are as they were.
  bool products(Index chunk, Index begin, Index count, Gates& gates, const Sums& sums, double& grad_m) const {
    float *q = at(plan.q), *turned = at(plan.turned), *y = at(plan.read), *scores = at(plan.scores);
    float *u = at(plan.u), *grads = at(plan.grads), *grad_state = at(plan.grad_state);
    for (Index i = 0; i < Sums::kArrays * plan.steps; i += kLanes) store(sums.rows + i, zero());
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
    // Every input, the state and its gradient are factors or terms of these.
    if (!is_finite(sums.rows, Sums::kArrays * plan.steps) || !is_finite(gates.normaliser, plan.steps) ||
        through - through != 0.0)
      return false;
    grad_gates(begin, count, gates, sums, through, grad_m);
    transpose(turned, plan.steps, q, plan.width, plan.steps, plan.width);
    scale_columns(turned, plan.steps, plan.width, plan.steps, gates.from_begin);
    carry(grad_state, plan, gates.through, turned, u, q, gates.from_begin, sums.normaliser, count);
    return true;
  }

  void back(Index chunk, Index begin, Index count, Gates& gates, const Sums& sums, double& grad_m) const {
    gates.m = start(chunk);
    make_gates(gates, p, plan, sequence, head, begin, count);
    read(begin, count);
    read_rows<T>(at(plan.q), plan.width, plan.steps, p, p.q, sequence, head, begin, count, 1.0f);
    read_grad(begin, count);
    if (__builtin_expect(gates.finite && products(chunk, begin, count, gates, sums, grad_m), 1)) return;
    read_grad(begin, count);
    make_step_gates(gates, plan, start(chunk), count);
    StepsBack<T>{*this, gates, begin, grad_m}.run(state(chunk), 0, count, at(plan.spare));
  }
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
