// ssd, backward (contract: ssd.hpp). A task is a block of heads of one group: it goes forward through a window of
// chunks to have the state before each of them, then back, carrying the gradient of the state (backward_chunk.hpp).
// What it adds to dB, dC and d(CB^T) lies in a part of its own for every chunk; the parts of a group are joined at the
// end.
#include "ops/ssd/backward_chunk.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

template <class T, class Cells>
void prepare_group(const Plan<Cells>& plan, const SsdProblem& p, const SsdSequence& sequence, std::int64_t g,
                   std::int64_t begin, float* out, float* scratch) {
  const std::int64_t count = min64(kChunk, sequence.length - begin);
  float* c_rows = scratch;                            // rows operand of C
  float* columns = c_rows + plan.steps * plan.state;  // a columns operand
  const auto transposed = [&](float* to, const float* rows) {
    if constexpr (Cells::kPerCell == 1) {
      transpose(to, plan.step_cells, rows, plan.state_cells, plan.steps, plan.state);
    } else {
      Cells::columns_of_rows(columns, plan.state, rows, plan.state_cells, plan.steps, plan.state_cells);
      transpose(to, plan.step_cells, columns, plan.state, plan.step_cells, plan.state);
    }
  };
  float* b_rows = out + plan.b_rows;
  read_rows<T, Cells>(b_rows, plan.state_cells, p, sequence, p.B, g, begin, count, plan.steps, p.state);
  read_rows<T, Cells>(c_rows, plan.state_cells, p, sequence, p.C, g, begin, count, plan.steps, p.state);
  transposed(out + plan.bt_rows, b_rows);
  transposed(out + plan.ct_rows, c_rows);
  transpose(columns, plan.steps, c_rows, plan.state_cells, plan.steps, plan.state_cells);
  for (std::int64_t j = 0; j < plan.steps; j += kTriangleColumns) {  // rows beyond are never read
    const std::int64_t width = min64(kTriangleColumns, plan.steps - j);
    product<Cells>(out + plan.cbt + j, plan.steps, b_rows, plan.state_cells, columns + j, plan.steps, j + width, width,
                   plan.state_cells, false);
  }
  const std::int64_t cells = plan.steps * plan.state_cells;
  out[plan.finite] = is_finite_dot<Cells>(b_rows, b_rows, cells) && is_finite_dot<Cells>(c_rows, c_rows, cells);
}

// Rows of dB and dC: the sum of the parts of all head blocks, and what dCB^T adds.
template <class T, class Cells>
void finish_group(const Plan<Cells>& plan, const SsdBackward& call, const SsdSequence& sequence, std::int64_t g,
                  std::int64_t begin, const float* shared, const float* parts, float* scratch) {
  const SsdProblem& p = call.problem;
  const std::int64_t count = min64(kChunk, sequence.length - begin);
  float* dcbt = scratch + plan.dcbt;
  float* dct = scratch + plan.dct;
  float* dbt = scratch + plan.dbt;
  float* rows = scratch + plan.part;  // of dCB^T; then of dB or dC, (steps,state)
  float* columns = rows + max64(plan.outer, plan.square);
  for (std::int64_t i = 0; i < plan.part; i += kLanes) {
    vf sum = load(parts + i);
    for (std::int64_t b = 1; b < plan.blocks; ++b) sum += load(parts + b * plan.part + i);
    store(scratch + i, sum);
  }
  if (shared[plan.finite] != 0.0f) {
    // dCB^T is zero where m > l, and its vectors there were never written: a stripe of columns l needs steps up to its
    // end, a stripe of columns m steps from its begin.
    for (std::int64_t m = 0; m < plan.steps; ++m)
      for (std::int64_t l = 0; l < m / kLanes * kLanes; l += kLanes) store(dcbt + m * plan.steps + l, zero());
    to_columns<Cells>(columns, plan.steps, dcbt, plan.steps, plan.steps, plan.steps);
    for (std::int64_t j = 0; j < plan.steps; j += kTriangleColumns) {
      const std::int64_t width = min64(kTriangleColumns, plan.steps - j);
      product<Cells>(dct + j, plan.steps, shared + plan.bt_rows, plan.step_cells, columns + j, plan.steps, plan.state,
                     width, cells<Cells>(j + width), true);
    }
    to_rows<Cells>(rows, plan.step_cells, dcbt, plan.steps, plan.steps, plan.steps);
    transpose(columns, plan.steps, rows, plan.step_cells, plan.steps, plan.step_cells);
    for (std::int64_t j = 0; j < plan.steps; j += kTriangleColumns) {
      const std::int64_t width = min64(kTriangleColumns, plan.steps - j), k0 = cells<Cells>(j);
      product<Cells>(dbt + j, plan.steps, shared + plan.ct_rows + k0, plan.step_cells, columns + k0 * plan.steps + j,
                     plan.steps, plan.state, width, plan.step_cells - k0, true);
    }
  }
  const std::int64_t stride[2] = {p.length, 1};
  const Steps where = steps(p, sequence, stride);
  const auto write = [&](void* out, const float* sums) {
    transpose(rows, plan.state, sums, plan.steps, plan.state, plan.steps);
    for (std::int64_t i = 0; i < count; ++i)
      write_row(static_cast<T*>(out) + ((where.offset + (begin + i) * where.stride) * p.groups + g) * p.state,
                rows + i * plan.state, p.state);
  };
  write(call.grad_B, dbt);
  write(call.grad_C, dct);
}

template <class T, class Cells>
struct Task {
  const Plan<Cells>& plan;
  const SsdBackward& call;
  const SsdProblem& p;
  const SsdSequence& sequence;
  std::int64_t s, g, block, head0, head1;
  const float* groups;
  float* parts;
  const Partials& partials;
  Scratch at;

  std::int64_t number(std::int64_t chunk) const { return (sequence.first_chunk + chunk) * p.groups + g; }
  const float* group(std::int64_t chunk) const { return groups + number(chunk) * plan.group; }
  float* part(std::int64_t chunk) const { return parts + (number(chunk) * plan.blocks + block) * plan.part; }
  float* kept_state(std::int64_t h, std::int64_t i) const {
    return at.kept + ((h - head0) * plan.kept + i) * plan.kept_size;
  }
  float* start(std::int64_t h, std::int64_t w) const {
    return at.starts + ((h - head0) * plan.windows + w) * plan.carry;
  }

  void advance(float* to, const float* from, std::int64_t h, std::int64_t chunk, Decay& d) const {
    const std::int64_t begin = chunk * kChunk, count = min64(kChunk, sequence.length - begin);
    make_decay<T>(d, p, sequence, h, begin, count);
    read_rows<T, Cells>(at.x_rows, plan.head_cells, p, sequence, p.x, h, begin, count, plan.steps, p.head_dim);
    const bool finite = d.finite && group(chunk)[plan.finite] != 0.0f &&
                        is_finite_dot<FloatCells>(from, from, plan.carry) &&
                        is_finite_dot<Cells>(at.x_rows, at.x_rows, plan.steps * plan.head_cells);
    if (__builtin_expect(!finite, 0)) {
      for (std::int64_t i = 0; i < plan.carry; i += kLanes) store(to + i, load(from + i));
      return step_chunk<T>(p, sequence, h, begin, count, d, to, plan.heads, at.weighted);
    }
    scaled_columns<Cells>(at.weighted, plan.heads, at.x_rows, plan.head_cells, plan.steps, plan.heads, d.weight);
    prefetch_steps<T>(p, sequence, p.x, h, begin + kChunk, kChunk, 0, p.head_dim);
    for_stripes(plan.heads, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      carry_stripe<decltype(width)::value>(plan, to, from, d.through, group(chunk) + plan.bt_rows, at.weighted, j);
    });
  }

  // Rows operands of the states before each chunk of a window, from the state before its first.
  void keep_states(std::int64_t h, std::int64_t w, std::int64_t chunk_count, Decay& d) const {
    const std::int64_t first = w * kWindow, last = min64(first + kWindow, chunk_count);
    if constexpr (Cells::kPerCell == 1) {
      for (std::int64_t i = 0; i < plan.carry; i += kLanes) store(kept_state(h, 0) + i, load(start(h, w) + i));
      for (std::int64_t c = first; c + 1 < last; ++c)
        advance(kept_state(h, c + 1 - first), kept_state(h, c - first), h, c, d);
    } else {
      const float* from = start(h, w);
      for (std::int64_t c = first; c < last; ++c) {
        to_rows<Cells>(kept_state(h, c - first), plan.head_cells, from, plan.heads, plan.state, plan.heads);
        if (c + 1 == last) break;
        advance(at.running, from, h, c, d);
        from = at.running;
      }
    }
  }

  // Rows operand of the state that ssd saved before a chunk: the saved memory itself where it has that form and lies on
  // whole cells.
  const float* saved_state(std::int64_t h, std::int64_t chunk) const {
    const Saved<T>* saved = static_cast<const Saved<T>*>(call.chunk_states) +
                            ((sequence.first_chunk + chunk) * p.heads + h) * p.state * p.head_dim;
    if (sizeof(Saved<T>) * Cells::kPerCell == sizeof(float) && plan.heads == p.head_dim && plan.state == p.state &&
        reinterpret_cast<std::uintptr_t>(saved) % alignof(float) == 0)
      return reinterpret_cast<const float*>(saved);
    for (std::int64_t n = 0; n < plan.state; ++n)
      read_row(at.running + n * plan.heads, saved + n * p.head_dim, 1, n < p.state ? p.head_dim : 0, plan.heads);
    if constexpr (Cells::kPerCell == 1) return at.running;
    to_rows<Cells>(at.saved_rows, plan.head_cells, at.running, plan.heads, plan.state, plan.heads);
    return at.saved_rows;
  }

  void run() const {
    const std::int64_t chunk_count = (sequence.length + kChunk - 1) / kChunk;
    const std::int64_t window_count = (chunk_count + kWindow - 1) / kWindow;
    const ChunkDerivative<T, Cells> derivative{{plan, call, p, sequence, s, head0, head1, partials, at}};
    Decay d;
    HeadSums sums[kHeadBlock];
    for (std::int64_t h = head0; h < head1; ++h) {
      read_state(plan, p, start(h, 0), p.initial_state, s, h);
      for (std::int64_t w = 0; !call.chunk_states && w + 1 < window_count; ++w) {
        const float* from = start(h, w);
        for (std::int64_t c = w * kWindow; c < (w + 1) * kWindow; ++c) {
          float* to = c + 1 == (w + 1) * kWindow ? start(h, w + 1) : at.running;
          advance(to, from, h, c, d);
          from = to;
        }
      }
      const StateGradient grad = at.gradient(plan, h - head0);
      read_state(plan, p, grad.values, call.grad_final_state, s, h);
      if constexpr (Cells::kPerCell != 1) {
        to_rows<Cells>(grad.rows, plan.head_cells, grad.values, plan.heads, plan.state, plan.heads);
        to_columns<Cells>(grad.columns, plan.heads, grad.values, plan.heads, plan.state, plan.heads);
      }
      float* skip = partials.D + (s * p.heads + h) * plan.heads;
      for (std::int64_t j = 0; j < plan.heads; j += kLanes) store(skip + j, zero());
    }
    for (std::int64_t w = window_count - 1; w >= 0; --w) {
      for (std::int64_t h = head0; !call.chunk_states && h < head1; ++h) keep_states(h, w, chunk_count, d);
      for (std::int64_t c = min64((w + 1) * kWindow, chunk_count) - 1; c >= w * kWindow; --c) {
        const bool has_state = c > 0 || p.initial_state.data;
        const bool has_grad = c + 1 < chunk_count || call.grad_final_state.data;
        for (std::int64_t h = head0; h < head1; ++h) {
          const float* before = nullptr;
          if (has_state) before = call.chunk_states ? saved_state(h, c) : kept_state(h, c - w * kWindow);
          derivative.run(h, c * kChunk, group(c), part(c), before, at.gradient(plan, h - head0), has_grad, d,
                         sums[h - head0]);
        }
      }
    }
    for (std::int64_t h = head0; h < head1; ++h) {
      partials.A[s * p.heads + h] = static_cast<float>(sums[h - head0].A);
      partials.dt_bias[s * p.heads + h] = static_cast<float>(sums[h - head0].dt_bias);
      if (call.grad_initial_state)
        write_state(plan, p, call.grad_initial_state, at.gradient(plan, h - head0).values, s, h);
    }
  }
};

// dA, ddt_bias and dD of one head: sums over sequences.
template <class Cells>
void reduce_head(const Plan<Cells>& plan, const SsdBackward& call, const Partials& partials, std::int64_t h) {
  const SsdProblem& p = call.problem;
  double a = 0.0, bias = 0.0;
  for (std::int64_t s = 0; s < p.sequence_count; ++s) {
    a += static_cast<double>(partials.A[s * p.heads + h]);
    bias += static_cast<double>(partials.dt_bias[s * p.heads + h]);
  }
  call.grad_A[h] = static_cast<float>(a);
  if (call.grad_dt_bias) call.grad_dt_bias[h] = static_cast<float>(bias);
  if (!call.grad_D) return;
  double whole = 0.0;
  for (std::int64_t i = 0; i < p.head_dim; ++i) {
    double sum = 0.0;
    for (std::int64_t s = 0; s < p.sequence_count; ++s)
      sum += static_cast<double>(partials.D[(s * p.heads + h) * plan.heads + i]);
    if (p.skip_width != 1) call.grad_D[h * p.skip_width + i] = static_cast<float>(sum);
    whole += sum;
  }
  if (p.skip_width == 1) call.grad_D[h] = static_cast<float>(whole);
}

template <class T, class Cells>
void run(const SsdBackward& call, float* workspace, const Parallel& parallel) {
  const SsdProblem& p = call.problem;
  const Plan<Cells> plan(call);
  float* groups = workspace;
  float* parts = groups + plan.groups_size(p);
  float* scratch = parts + plan.parts_size(p);
  const Partials partials = place_partials(plan, p, scratch + plan.scratch_size(p), nullptr);
  for_group_chunks(
      plan, p, parallel,
      [&](const SsdSequence& sequence, std::int64_t g, std::int64_t step, std::int64_t t, std::int64_t slot) {
        prepare_group<T>(plan, p, sequence, g, step, groups + t * plan.group, scratch + slot * plan.group_scratch());
      });
  parallel(plan.slots, 1, [&](std::int64_t begin, std::int64_t end) {
    [[maybe_unused]] const typename Cells::Session session;
    const FlushDenormals flush;
    for (std::int64_t t = begin * plan.tasks / plan.slots; t < end * plan.tasks / plan.slots; ++t) {
      const std::int64_t s = t / (p.groups * plan.blocks), g = t / plan.blocks % p.groups, block = t % plan.blocks;
      const std::int64_t group_heads = p.heads / p.groups, head0 = g * group_heads + block * plan.block;
      const Task<T, Cells> task{plan,
                                call,
                                p,
                                p.sequences[s],
                                s,
                                g,
                                block,
                                head0,
                                min64(head0 + plan.block, (g + 1) * group_heads),
                                groups,
                                parts,
                                partials,
                                Scratch(plan, scratch + begin * plan.scratch)};
      task.run();
    }
  });
  for_group_chunks(
      plan, p, parallel,
      [&](const SsdSequence& sequence, std::int64_t g, std::int64_t step, std::int64_t t, std::int64_t slot) {
        finish_group<T>(plan, call, sequence, g, step, groups + t * plan.group, parts + t * plan.blocks * plan.part,
                        scratch + slot * plan.group_scratch());
      });
  parallel(p.heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t h = begin; h < end; ++h) reduce_head(plan, call, partials, h);
  });
}

}  // namespace

std::int64_t ssd_backward_workspace_bytes(const SsdBackward& call) {
  const SsdProblem& p = call.problem;
  MAMBASDK_SHARE_AVX512(p.dtype == dtype::bf16, ssd_backward_workspace_bytes(call));
  return with_cells(p.dtype, [&]<class T, class Cells>(T, Cells) {
    const Plan<Cells> plan(call);
    std::int64_t partials = 0;
    place_partials(plan, p, nullptr, &partials);
    return (plan.groups_size(p) + plan.parts_size(p) + plan.scratch_size(p) + partials) *
           static_cast<std::int64_t>(sizeof(float));
  });
}

void ssd_backward(const SsdBackward& call, void* workspace, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(call.problem.dtype == dtype::bf16, ssd_backward(call, workspace, parallel));
  with_cells(call.problem.dtype,
             [&]<class T, class Cells>(T, Cells) { run<T, Cells>(call, static_cast<float*>(workspace), parallel); });
}

}  // namespace mambasdk::MAMBASDK_ISA
