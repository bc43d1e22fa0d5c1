// mlstm, one step from a state to a state: each row of C is read once and written once.
#include "ops/mlstm/gates.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using mlstm::Forward;

template <class T>
void step(const Forward& call, Index s, Index head, float* scratch) {
  const Problem& p = call.problem;
  const Sequence& sequence = p.sequences[s];
  const Index width = p.head_dim, padded = round_up(width, kLanes), first = s * p.heads + head;
  float *q = scratch, *k = q + padded, *v = k + padded, *row = v + padded;
  read_rows<T>(q, padded, 1, p, p.q, sequence, head, 0, 1, 1.0f);
  read_rows<T>(k, padded, 1, p, p.k, sequence, head, 0, 1, key_scale(p));
  read_rows<T>(v, padded, 1, p, p.v, sequence, head, 0, 1, 1.0f);
  float forget = 0.0f, input = 0.0f;
  read_gates(&forget, p, p.fgate, sequence, head, 0, 1);
  read_gates(&input, p, p.igate, sequence, head, 0, 1);
  const float before = static_cast<const float*>(p.m.data)[s * p.m.stride[0] + head * p.m.stride[1]];
  const double decayed = static_cast<double>(before) - static_cast<double>(softplus(set1(-forget))[0]);
  const double taken = static_cast<double>(input), m = decayed >= taken ? decayed : taken;
  const vf a = exp(set1(static_cast<float>(decayed - m))), b = exp(set1(static_cast<float>(taken - m)));
  const float least = exp(set1(static_cast<float>(-m)))[0];
  // row = a row + factor k, and its product with q.
  const auto advance = [&](const StridedView& from, Index at, Index stride, float factor, float* out) {
    read_row(row, static_cast<const float*>(from.data) + at, stride, width, padded);
    vf sum = zero();
    for (Index j = 0; j < width; j += kLanes) {
      const vf value = a * load(row + j) + load(k + j) * factor;
      store_n(out + j, value, static_cast<int>(min64(kLanes, width - j)));
      sum += value * load(q + j);
    }
    return reduce_add(sum);
  };
  const Divisor divisor(advance(p.n, s * p.n.stride[0] + head * p.n.stride[1], p.n.stride[2], b[0],
                                static_cast<float*>(call.final.n) + first * width),
                        least);
  for (Index e = 0; e < width; ++e) {
    const Index at = s * p.C.stride[0] + head * p.C.stride[1] + e * p.C.stride[2];
    v[e] =
        advance(p.C, at, p.C.stride[3], b[0] * v[e], static_cast<float*>(call.final.C) + (first * width + e) * width) /
        divisor.value;
  }
  write_row(static_cast<T*>(call.h) + first * width, v, width);
  static_cast<float*>(call.final.m)[first] = static_cast<float>(m);
}

MAMBASDK_SIMD Index scratch_floats(const Problem& p) {
  return 4 * round_up(p.head_dim, kLanes) + 16;
}

}  // namespace

std::int64_t mlstm_step_workspace_bytes(const Forward& call) {
  return round_up(scratch_floats(call.problem), 16) * slot_count(call.problem) * static_cast<Index>(sizeof(float));
}

void mlstm_step(const Forward& call, void* workspace, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(call.problem.type == dtype::bf16, mlstm_step(call, workspace, parallel));
  with_own_type(call.problem.type, [&]<class T>(T) {
    const Index floats = round_up(scratch_floats(call.problem), 16);
    for_each_head(call.problem, parallel, [&](Index s, Index head, Index slot) {
      step<T>(call, s, head, static_cast<float*>(workspace) + slot * floats);
    });
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
