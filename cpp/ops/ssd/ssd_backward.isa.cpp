// ssd, backward (contract: ssd.hpp). A task is a block of heads of one group: it goes forward through a window of
// chunks to have the state before each of them, then back, carrying the gradient of the state (backward_chunk.hpp).
#include "ops/ssd/backward_chunk.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

template <class T, class Cells>
void prepare_group(const Plan<Cells>& plan, const SsdProblem& p, const SsdSequence& sequence, std::int64_t g,
                   std::int64_t begin, float* out, float* scratch) {
  const std::int64_t count = min64(kChunk, sequence.length - begin);
  float* rows = scratch;                            // (steps,state)
  float* columns = rows + plan.steps * plan.state;  // a columns operand
  const auto operands = [&](const SsdInput& input, float* as_rows, float* as_transposed_rows, float* transposed) {
    read_chunk<T>(rows, plan.state, p, sequence, input, g, begin, count, plan.steps, p.state);
    to_rows<Cells>(as_rows, plan.state_cells, rows, plan.state, plan.steps, plan.state);
    to_columns<Cells>(columns, plan.state, rows, plan.state, plan.steps, plan.state);
    transpose(as_transposed_rows, plan.step_cells, columns, plan.state, plan.step_cells, plan.state);
    if constexpr (Cells::kPerCell != 1) transpose(transposed, plan.steps, rows, plan.state, plan.steps, plan.state);
  };
  operands(p.B, out + plan.b_rows, out + plan.bt_rows, out + plan.bt);
  operands(p.C, out + plan.c_rows, out + plan.ct_rows, out + plan.ct);
  transpose(columns, plan.steps, out + plan.c_rows, plan.state_cells, plan.steps, plan.state_cells);
  product<Cells>(out + plan.cbt, plan.steps, out + plan.b_rows, plan.state_cells, columns, plan.steps, plan.steps,
                 plan.steps, plan.state_cells, false);
}

template <class T, class Cells>
struct Task {
  const Plan<Cells>& plan;
  const SsdBackward& call;
  const SsdProblem& p;
  const SsdSequence& sequence;
  std::int64_t s, g, block, head0, head1;
  const float* groups;  // of this sequence and group
  const Partials& partials;
  std::int64_t rows;  // of Partials::B
  Scratch at;

  const float* group(std::int64_t chunk) const { return groups + chunk * plan.group; }
  float* kept_state(std::int64_t h, std::int64_t i) const {
    return at.kept + ((h - head0) * plan.kept + i) * plan.kept_size;
  }
  float* start(std::int64_t h, std::int64_t w) const {
    return at.starts + ((h - head0) * plan.windows + w) * plan.carry;
  }
  float* dstate(std::int64_t h) const { return at.dstates + (h - head0) * plan.carry; }

  void advance(float* to, const float* from, std::int64_t h, std::int64_t chunk, Decay& d) const {
    const std::int64_t begin = chunk * kChunk, count = min64(kChunk, sequence.length - begin);
    make_decay<T>(d, p, sequence, h, begin, count);
    read_chunk<T>(at.x, plan.heads, p, sequence, p.x, h, begin, count, plan.steps, p.head_dim);
    to_columns<Cells>(at.weighted, plan.heads, at.x, plan.heads, plan.steps, plan.heads, d.weight);
    prefetch_steps<T>(p, sequence, p.x, h, begin + kChunk, kChunk, 0, p.head_dim);
    carry_over(plan, to, from, d.through, group(chunk) + plan.bt_rows, at.weighted);
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

  // Rows operand of the state that ssd saved before a chunk: the saved memory itself where it has that form already.
  const float* saved_state(std::int64_t h, std::int64_t chunk) const {
    const T* saved = static_cast<const T*>(call.chunk_states) +
                     ((sequence.first_chunk + chunk) * p.heads + h) * p.state * p.head_dim;
    if (sizeof(T) * Cells::kPerCell == sizeof(float) && plan.heads == p.head_dim && plan.state == p.state)
      return reinterpret_cast<const float*>(saved);
    for (std::int64_t n = 0; n < plan.state; ++n)
      read_row(at.running + n * plan.heads, saved + n * p.head_dim, 1, n < p.state ? p.head_dim : 0, plan.heads);
    if constexpr (Cells::kPerCell == 1) return at.running;
    to_rows<Cells>(at.saved_rows, plan.head_cells, at.running, plan.heads, plan.state, plan.heads);
    return at.saved_rows;
  }

  // The heads' shared sums of one chunk become rows of dB and dC.
  void finish_chunk(std::int64_t chunk) const {
    const float* shared = group(chunk);
    const float* columns = at.dcbt;  // columns at.operand of dCB^T: (m cells, l)
    if constexpr (Cells::kPerCell != 1) {
      to_columns<Cells>(at.dcb_columns, plan.steps, at.dcbt, plan.steps, plan.steps, plan.steps);
      columns = at.dcb_columns;
    }
    // dCB^T is zero where m > l: a stripe of columns l needs steps up to its end, a stripe of columns m steps from its
    // begin.
    to_rows<Cells>(at.dcb_rows, plan.step_cells, at.dcbt, plan.steps, plan.steps, plan.steps);
    for (std::int64_t j = 0; j < plan.steps; j += kTileColumns) {
      const std::int64_t width = min64(kTileColumns, plan.steps - j);
      product<Cells>(at.dct + j, plan.steps, shared + plan.bt_rows, plan.step_cells, columns + j, plan.steps,
                     plan.state, width, cells<Cells>(j + width), true);
    }
    transpose(at.dcb_columns, plan.steps, at.dcb_rows, plan.step_cells, plan.steps, plan.step_cells);
    for (std::int64_t j = 0; j < plan.steps; j += kTileColumns) {
      const std::int64_t width = min64(kTileColumns, plan.steps - j), k0 = cells<Cells>(j);
      product<Cells>(at.dbt + j, plan.steps, shared + plan.ct_rows + k0, plan.step_cells,
                     at.dcb_columns + k0 * plan.steps + j, plan.steps, plan.state, width, plan.step_cells - k0, true);
    }
    write_shared(partials.B, call.grad_B, at.dbt, chunk);
    write_shared(partials.C, call.grad_C, at.dct, chunk);
  }

  void write_shared(float* partial, void* out, const float* sums, std::int64_t chunk) const {
    const std::int64_t begin = chunk * kChunk, count = min64(kChunk, sequence.length - begin);
    const std::int64_t stride[2] = {p.length, 1};
    const Steps where = steps(p, sequence, stride);
    const std::int64_t row0 = where.offset + begin * where.stride, apart = p.groups * plan.state;
    if (plan.blocks > 1 && count == plan.steps) {
      float* to = partial + ((block * rows + row0) * p.groups + g) * plan.state;
      return transpose(to, apart * where.stride, sums, plan.steps, plan.state, plan.steps);
    }
    transpose(at.transposed, plan.state, sums, plan.steps, plan.state, plan.steps);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = row0 + i * where.stride;
      const float* from = at.transposed + i * plan.state;
      if (plan.blocks == 1) {
        write_row(static_cast<T*>(out) + (row * p.groups + g) * p.state, from, p.state);
      } else {
        float* to = partial + ((block * rows + row) * p.groups + g) * plan.state;
        for (std::int64_t j = 0; j < plan.state; j += kLanes) store(to + j, load(from + j));
      }
    }
  }

  void run() const {
    const std::int64_t chunk_count = (sequence.length + kChunk - 1) / kChunk;
    const std::int64_t window_count = (chunk_count + kWindow - 1) / kWindow;
    const ChunkDerivative<T, Cells> derivative{plan, call, p, sequence, s, head0, head1, partials, at};
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
      read_state(plan, p, dstate(h), call.grad_final_state, s, h);
      float* skip = partials.D + (s * p.heads + h) * plan.heads;
      for (std::int64_t j = 0; j < plan.heads; j += kLanes) store(skip + j, zero());
    }
    for (std::int64_t w = window_count - 1; w >= 0; --w) {
      for (std::int64_t h = head0; !call.chunk_states && h < head1; ++h) keep_states(h, w, chunk_count, d);
      for (std::int64_t c = min64((w + 1) * kWindow, chunk_count) - 1; c >= w * kWindow; --c) {
        clear(at.dct, plan.steps * plan.state);
        clear(at.dbt, plan.steps * plan.state);
        clear(at.dcbt, plan.square);
        for (std::int64_t h = head0; h < head1; ++h)
          derivative.run(h, c * kChunk, group(c),
                         call.chunk_states ? saved_state(h, c) : kept_state(h, c - w * kWindow), dstate(h), d,
                         sums[h - head0]);
        finish_chunk(c);
      }
    }
    for (std::int64_t h = head0; h < head1; ++h) {
      partials.A[s * p.heads + h] = static_cast<float>(sums[h - head0].A);
      partials.dt_bias[s * p.heads + h] = static_cast<float>(sums[h - head0].dt_bias);
      if (call.grad_initial_state) write_state(plan, p, call.grad_initial_state, dstate(h), s, h);
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

// Row i of dB or dC: a sum over head blocks.
template <class T, class Cells>
void reduce_row(const Plan<Cells>& plan, const SsdProblem& p, const float* partial, std::int64_t rows, void* out,
                std::int64_t i) {
  for (std::int64_t j = 0; j < p.state; j += kLanes) {
    vf sum = zero();
    for (std::int64_t b = 0; b < plan.blocks; ++b) sum += load(partial + (b * rows * p.groups + i) * plan.state + j);
    store_n(static_cast<T*>(out) + i * p.state + j, sum, static_cast<int>(min64(kLanes, p.state - j)));
  }
}

template <class T, class Cells>
void run(const SsdBackward& call, float* workspace, const Parallel& parallel) {
  const SsdProblem& p = call.problem;
  const Plan<Cells> plan(call);
  const std::int64_t rows = row_count(p);
  float* groups = workspace;
  float* scratch = groups + plan.groups_size(p);
  const Partials partials = place_partials(plan, p, rows, scratch + plan.scratch_size(p), nullptr);
  for_group_chunks(
      plan, p, parallel,
      [&](const SsdSequence& sequence, std::int64_t g, std::int64_t step, std::int64_t t, std::int64_t slot) {
        prepare_group<T>(plan, p, sequence, g, step, groups + t * plan.group, scratch + slot * plan.group_scratch());
      });
  parallel(plan.slots, 1, [&](std::int64_t begin, std::int64_t end) {
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
                                groups + (s * p.groups + g) * plan.chunks * plan.group,
                                partials,
                                rows,
                                Scratch(plan, scratch + begin * plan.scratch)};
      task.run();
    }
  });
  parallel(p.heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t h = begin; h < end; ++h) reduce_head(plan, call, partials, h);
  });
  if (plan.blocks == 1) return;
  parallel(rows * p.groups, 1 + 8192 / (plan.state + 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      reduce_row<T>(plan, p, partials.B, rows, call.grad_B, i);
      reduce_row<T>(plan, p, partials.C, rows, call.grad_C, i);
    }
  });
}

}  // namespace

std::int64_t ssd_backward_workspace_bytes(const SsdBackward& call) {
  const SsdProblem& p = call.problem;
  return with_cells(p.dtype, [&]<class T, class Cells>(T, Cells) {
    const Plan<Cells> plan(call);
    std::int64_t partials = 0;
    place_partials(plan, p, row_count(p), nullptr, &partials);
    return (plan.groups_size(p) + plan.scratch_size(p) + partials) * static_cast<std::int64_t>(sizeof(float));
  });
}

void ssd_backward(const SsdBackward& call, void* workspace, const Parallel& parallel) {
  with_cells(call.problem.dtype,
             [&]<class T, class Cells>(T, Cells) { run<T, Cells>(call, static_cast<float*>(workspace), parallel); });
}

}  // namespace mambasdk::MAMBASDK_ISA
