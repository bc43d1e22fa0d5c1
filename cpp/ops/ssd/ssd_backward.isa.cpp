// ssd, backward (contract: ssd.hpp). A task is a block of heads of one group: it goes forward through a window of
// chunks to have the state before each of them, then back, carrying the gradient of the state.
//
// Within a chunk (l, m steps, m <= l; scores M = CB^T o decay o source):
//   dM = dY X^T            dCB^T += dM o decay o source        (both transposed here: m rows, l along vectors)
//   dU = to_end o (B dS) + (CB^T o decay)^T dY                  dx = source o dU + D dY
//   dC^T += from_begin o (S^T dY^T),  dB^T += weight o (dS^T X^T),  then dC^T += B^T dCB^T, dB^T += C^T dCB
//   dS = through dS + C^T (from_begin o dY)
// States and their gradients are (N,P) here.
#include "ops/ssd/chunk.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr std::int64_t kHeadBlock = 4;  // heads of a task: they share the sums dB, dC
constexpr std::int64_t kWindow = 32;    // chunks whose states are kept at a time

// Padded sizes, and the places of things in the workspace, counted in floats.
template <class Cells>
struct Plan {
  std::int64_t steps, heads, state;                                   // a chunk's steps, P and N, padded
  std::int64_t step_cells, head_cells, state_cells;                   // of one row whose summed dim is time, P or N
  std::int64_t chunks, windows;                                       // of the longest sequence
  std::int64_t blocks, block;                                         // head blocks per group, heads per block
  std::int64_t tile, square, carry;                                   // (steps,heads), (steps,steps), (state,heads)
  std::int64_t c_rows, b_rows, ct_rows, bt_rows, ct, bt, cbt, group;  // shared by a group: offsets, size of one chunk
  std::int64_t kept, kept_size;                                       // states kept at a time
  std::int64_t tasks, slots, scratch;                                 // scratch: of one range of tasks

  explicit Plan(const SsdBackward& call) {
    const SsdProblem& p = call.problem;
    steps = padded<Cells>(min64(kChunk, max64(p.max_length, 1)));
    heads = padded<Cells>(p.head_dim);
    state = padded<Cells>(p.state);
    step_cells = cells<Cells>(steps);
    head_cells = cells<Cells>(heads);
    state_cells = cells<Cells>(state);
    chunks = (p.max_length + kChunk - 1) / kChunk;
    windows = max64((chunks + kWindow - 1) / kWindow, 1);
    const std::int64_t group_heads = p.heads / p.groups;
    blocks = (group_heads + kHeadBlock - 1) / kHeadBlock;
    block = (group_heads + blocks - 1) / blocks;
    tile = steps * heads;
    square = steps * steps;
    carry = state * heads;
    std::int64_t end = 0;
    const auto place = [&end](std::int64_t size) {
      const std::int64_t at = end;
      end += size;
      return at;
    };
    c_rows = place(steps * state_cells);
    b_rows = place(steps * state_cells);
    ct_rows = place(state * step_cells);
    bt_rows = place(state * step_cells);
    ct = Cells::kPerCell == 1 ? ct_rows : place(state * steps);
    bt = Cells::kPerCell == 1 ? bt_rows : place(state * steps);
    cbt = place(square);
    group = end;
    tasks = p.sequence_count * p.groups * blocks;
    slots = min64(tasks, 32);
    kept = call.chunk_states ? 0 : min64(max64(chunks, 1), kWindow);
    kept_size = state * head_cells;
    scratch =
        8 * tile + 4 * square + 3 * steps * state + 4 * carry + block * (kept * kept_size + (windows + 1) * carry);
  }
  std::int64_t group_slots(const SsdProblem& p) const { return min64(p.sequence_count * p.groups * chunks, 64); }
  std::int64_t groups_size(const SsdProblem& p) const { return p.sequence_count * p.groups * chunks * group; }
  std::int64_t group_scratch() const { return 2 * steps * state; }
  std::int64_t scratch_size(const SsdProblem& p) const {
    return max64(slots * scratch, group_slots(p) * group_scratch());
  }
};

// Sums that several tasks contribute to, reduced at the end in a fixed order.
struct Partials {
  float* A;        // (S,H)
  float* dt_bias;  // (S,H)
  float* D;        // (S,H,padded P)
  float* B;        // (blocks,B*L,G,padded N)
  float* C;
};

template <class Cells>
Partials place_partials(const Plan<Cells>& plan, const SsdProblem& p, std::int64_t rows, float* at,
                        std::int64_t* size) {
  Partials partials{};
  std::int64_t end = 0;
  const auto place = [&](std::int64_t count) {
    float* here = at ? at + end : nullptr;
    end += round_up(count, 16);
    return here;
  };
  partials.A = place(p.sequence_count * p.heads);
  partials.dt_bias = place(p.sequence_count * p.heads);
  partials.D = place(p.sequence_count * p.heads * plan.heads);
  partials.B = place(plan.blocks * rows * p.groups * plan.state);
  partials.C = place(plan.blocks * rows * p.groups * plan.state);
  if (size) *size = end;
  return partials;
}

MAMBASDK_SIMD void clear(float* at, std::int64_t size) {
  for (std::int64_t i = 0; i < size; i += kLanes) store(at + i, zero());
}

// Batch entries that the sequences cover, times L.
std::int64_t row_count(const SsdProblem& p) {
  std::int64_t batches = 0;
  for (std::int64_t s = 0; s < p.sequence_count; ++s) batches = max64(batches, p.sequences[s].batch + 1);
  return batches * p.length;
}

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

// Memory of one range of tasks.
struct Scratch {
  float *x, *xt_columns, *dy, *dyt_columns, *dy_columns, *dye_columns, *weighted, *operand;  // (steps,heads)
  float *scores, *dcbt, *dcb_columns, *dcb_rows;                                             // (steps,steps)
  float *dct, *dbt, *transposed;                                                             // (steps,state)
  float *running, *dstate_rows, *dstate_columns, *saved_rows;                                // (state,heads)
  float *kept, *starts, *dstates;  // per head: states before a window's chunks, before each window; state's gradient

  template <class Cells>
  Scratch(const Plan<Cells>& plan, float* memory) {
    const auto next = [&memory](std::int64_t size) {
      float* here = memory;
      memory += size;
      return here;
    };
    x = next(plan.tile);
    xt_columns = next(plan.tile);
    dy = next(plan.tile);
    dyt_columns = next(plan.tile);
    dy_columns = next(plan.tile);
    dye_columns = next(plan.tile);
    weighted = next(plan.tile);
    operand = next(plan.tile);
    scores = next(plan.square);
    dcbt = next(plan.square);
    dcb_columns = next(plan.square);
    dcb_rows = next(plan.square);
    dct = next(plan.steps * plan.state);
    dbt = next(plan.steps * plan.state);
    transposed = next(plan.steps * plan.state);
    running = next(plan.carry);
    dstate_rows = next(plan.carry);
    dstate_columns = next(plan.carry);
    saved_rows = next(plan.carry);
    kept = next(plan.block * plan.kept_size * plan.kept);
    starts = next(plan.block * plan.carry * plan.windows);
    dstates = next(plan.block * plan.carry);
  }
};

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

  // (state,heads) from (S,H,P,N), zeros when absent
  void read_state(float* to, const SsdInput& input, std::int64_t h) const {
    for (std::int64_t i = 0; i < plan.carry; i += kLanes) store(to + i, zero());
    if (!input.data) return;
    const float* from = static_cast<const float*>(input.data) + s * input.stride[0] + h * input.stride[1];
    for (std::int64_t i = 0; i < p.head_dim; ++i)
      for (std::int64_t n = 0; n < p.state; ++n)
        to[n * plan.heads + i] = from[i * input.stride[2] + n * input.stride[3]];
  }

  // to = through * from + a (scale o columns): the state across a chunk, or its gradient back across it
  void carry_over(float* to, const float* from, float through, const float* a, const float* columns) const {
    for (std::int64_t n = 0; n < plan.state; n += kTileRows) {
      for_stripes(plan.heads, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
        constexpr int NV = decltype(width)::value;
        vf acc[kTileRows][NV];
        load_tile(acc, from + n * plan.heads + j, plan.heads);
        const vf factor = set1(through);
#pragma GCC unroll 16
        for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) acc[r][v] *= factor;
        multiply<Cells>(acc, a + n * plan.step_cells, plan.step_cells, columns + j, plan.heads, plan.step_cells);
        store_tile(acc, to + n * plan.heads + j, plan.heads);
      });
    }
  }

  void advance(float* to, const float* from, std::int64_t h, std::int64_t chunk, Decay& d) const {
    const std::int64_t begin = chunk * kChunk, count = min64(kChunk, sequence.length - begin);
    make_decay<T>(d, p, sequence, h, begin, count);
    read_chunk<T>(at.x, plan.heads, p, sequence, p.x, h, begin, count, plan.steps, p.head_dim);
    to_columns<Cells>(at.weighted, plan.heads, at.x, plan.heads, plan.steps, plan.heads, d.weight);
    prefetch_steps<T>(p, sequence, p.x, h, begin + kChunk, kChunk, 0, p.head_dim);
    carry_over(to, from, d.through, group(chunk) + plan.bt_rows, at.weighted);
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

  // grad_y of one chunk, through the gate; writes grad_z.
  void read_grad_y(std::int64_t h, std::int64_t begin, std::int64_t count) const {
    read_chunk<T>(at.dy, plan.heads, p, sequence, call.grad_y, h, begin, count, plan.steps, p.head_dim);
    if (!p.z.data) return;
    read_chunk<T>(at.operand, plan.heads, p, sequence, p.z, h, begin, count, plan.steps, p.head_dim);
    const std::int64_t stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
    const Steps where = steps(p, sequence, stride);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = where.offset + (begin + i) * where.stride + h * p.head_dim;
      for (std::int64_t j = 0; j < p.head_dim; j += kLanes) {
        const int n = static_cast<int>(min64(kLanes, p.head_dim - j));
        const vf z = load(at.operand + i * plan.heads + j), gate = sigmoid(z), grad = load(at.dy + i * plan.heads + j);
        const vf ungated = load_n(static_cast<const T*>(call.ungated) + row + j, n);
        store_n(static_cast<T*>(call.grad_z) + row + j, grad * ungated * gate * (1.0f + z * (1.0f - gate)), n);
        store(at.dy + i * plan.heads + j, grad * z * gate);
      }
    }
  }

  // Products over pairs of steps: at.scores^T, dCB^T, and the sums of dM o M over its strict rows and columns.
  void pairs(const float* cbt, const Decay& d, float* row_sum, float* column_sum) const {
    const float* x_rows = at.x;
    if constexpr (Cells::kPerCell != 1) x_rows = at.operand;
    for_stripes(plan.steps, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      constexpr int NV = decltype(width)::value;
      for (std::int64_t m0 = 0; m0 < min64(plan.steps, j + NV * kLanes); m0 += kTileRows) {
        vf acc[kTileRows][NV];
        clear_tile(acc);
        multiply<Cells>(acc, x_rows + m0 * plan.head_cells, plan.head_cells, at.dyt_columns + j, plan.steps,
                        plan.head_cells);
        alignas(64) float tile[kTileRows][NV * kLanes];
        store_tile(acc, &tile[0][0], NV * kLanes);
        vf row[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) row[v] = load(row_sum + j + v * kLanes);
        for (std::int64_t r = 0; r < kTileRows; ++r) {
          const std::int64_t m = m0 + r;
          const vi early = vi{} + static_cast<std::int32_t>(m);
          const vf source = set1(d.source[m]);
          vf column = zero();
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) {
            const std::int64_t l = j + v * kLanes, late_block = l / kDecayBlock;
            const vi late = lane_index(l);
            vf decay;
            if (d.factored && m0 < late_block * kDecayBlock) {
              decay = load(d.late + l) * set1(d.early[late_block][m]);
            } else {
              decay = decay_between(load(d.s + l), load(d.s_low + l), set1(d.s[m]), set1(d.s_low[m]),
                                    (early <= late) & (early >= load_int(d.first + l)));
            }
            const vf cb = load(cbt + m * plan.steps + l);
            const vf dm = load(&tile[r][v * kLanes]) * decay * source;
            Cells::put_row(at.scores + m * plan.step_cells, l, cb * decay);
            store(at.dcbt + m * plan.steps + l, load(at.dcbt + m * plan.steps + l) + dm);
            const vf both = select(early != late, dm * cb, zero());
            row[v] += both;
            column += both;
          }
          column_sum[m] += reduce_add(column);
        }
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) store(row_sum + j + v * kLanes, row[v]);
      }
    });
  }

  // grad_x of one chunk; direct[m] += x_m . dU_m
  void inputs(std::int64_t h, std::int64_t begin, std::int64_t count, const float* b_rows, const float* columns,
              const Decay& d, float* direct) const {
    const std::int64_t stride[4] = {p.length * p.heads * p.head_dim, p.heads * p.head_dim, p.head_dim, 1};
    const Steps where = steps(p, sequence, stride);
    // The head and the step where the task goes next.
    const std::int64_t h1 = h + 1 < head1 ? h + 1 : head0, next = h1 > h ? begin : begin - kChunk;
    for_stripes(plan.heads, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
      constexpr int NV = decltype(width)::value;
      for (std::int64_t m0 = 0; m0 < count; m0 += kTileRows) {
        if (next >= 0) {
          prefetch_steps<T>(p, sequence, p.x, h1, next + m0, kTileRows, j, NV * kLanes);
          prefetch_steps<T>(p, sequence, call.grad_y, h1, next + m0, kTileRows, j, NV * kLanes);
        }
        vf acc[kTileRows][NV];
        clear_tile(acc);
        multiply<Cells>(acc, b_rows + m0 * plan.state_cells, plan.state_cells, columns + j, plan.heads,
                        plan.state_cells);
#pragma GCC unroll 16
        for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) acc[r][v] *= set1(d.to_end[m0 + r]);
        const std::int64_t k0 = cells<Cells>(m0);
        multiply<Cells>(acc, at.scores + m0 * plan.step_cells + k0, plan.step_cells,
                        at.dy_columns + k0 * plan.heads + j, plan.heads, plan.step_cells - k0);
        alignas(64) float tile[kTileRows][NV * kLanes];
        store_tile(acc, &tile[0][0], NV * kLanes);
        for (std::int64_t r = 0; r < min64(kTileRows, count - m0); ++r) {
          const std::int64_t m = m0 + r;
          T* out = static_cast<T*>(call.grad_x) + where.offset + (begin + m) * where.stride + h * p.head_dim;
          vf dot = zero();
          for (int v = 0; v < NV; ++v) {
            const std::int64_t column = j + v * kLanes;
            const int n = static_cast<int>(min64(kLanes, p.head_dim - column));
            if (n <= 0) break;
            const vf du = load(&tile[r][v * kLanes]);
            dot += du * load(at.x + m * plan.heads + column);
            vf dx = du * set1(d.source[m]);
            if (p.D) {
              const vf skip = p.skip_width == 1 ? set1(p.D[h]) : load_n(p.D + h * p.head_dim + column, n);
              dx += skip * load(at.dy + m * plan.heads + column);
            }
            store_n(out + column, dx, n);
          }
          direct[m] += reduce_add(dot);
        }
      }
    });
  }

  // out^T (state,steps) += t, where t = scale o (a columns); sum[l] += other[n,l] t[n,l] over n
  void outer(float* out, const float* a, const float* columns, const float* scale, const float* other,
             float* sum) const {
    for (std::int64_t n = 0; n < plan.state; n += kTileRows) {
      for_stripes(plan.steps, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
        constexpr int NV = decltype(width)::value;
        vf acc[kTileRows][NV], total[NV];
        clear_tile(acc);
        multiply<Cells>(acc, a + n * plan.head_cells, plan.head_cells, columns + j, plan.steps, plan.head_cells);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) total[v] = load(sum + j + v * kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) {
            const std::int64_t i = (n + r) * plan.steps + j + v * kLanes;
            const vf t = acc[r][v] * load(scale + j + v * kLanes);
            total[v] += t * load(other + i);
            store(out + i, load(out + i) + t);
          }
        }
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) store(sum + j + v * kLanes, total[v]);
      });
    }
  }

  // Sum of the products of a state's gradient and the state kept before the chunk.
  float through_product(const float* grad, const float* state_rows) const {
    vf sum = zero();
    for (std::int64_t i = 0; i < plan.carry; i += kLanes) {
      if constexpr (Cells::kPerCell == 1)
        sum += load(grad + i) * load(state_rows + i);
      else
        sum += load(grad + i) * load(reinterpret_cast<const bf16*>(state_rows) + i);
    }
    return reduce_add(sum);
  }

  struct HeadSums {
    double A = 0.0, dt_bias = 0.0;
  };

  void back_through_chunk(std::int64_t h, std::int64_t chunk, const float* state_rows, Decay& d, HeadSums& sums) const {
    const std::int64_t begin = chunk * kChunk, count = min64(kChunk, sequence.length - begin);
    const float* shared = group(chunk);
    float* grad = dstate(h);
    alignas(64) float row_sum[kChunk] = {}, column_sum[kChunk] = {}, direct[kChunk] = {};
    alignas(64) float from_state[kChunk] = {}, to_state[kChunk] = {};
    make_decay<T>(d, p, sequence, h, begin, count);
    read_chunk<T>(at.x, plan.heads, p, sequence, p.x, h, begin, count, plan.steps, p.head_dim);
    read_grad_y(h, begin, count);
    const float* grad_rows = grad;
    const float* grad_columns = grad;
    if constexpr (Cells::kPerCell == 1) {
      transpose(at.xt_columns, plan.steps, at.x, plan.heads, plan.steps, plan.heads);
      transpose(at.dyt_columns, plan.steps, at.dy, plan.heads, plan.steps, plan.heads);
    } else {
      to_rows<Cells>(at.operand, plan.head_cells, at.dy, plan.heads, plan.steps, plan.heads);
      transpose(at.dyt_columns, plan.steps, at.operand, plan.head_cells, plan.steps, plan.head_cells);
      to_rows<Cells>(at.operand, plan.head_cells, at.x, plan.heads, plan.steps, plan.heads);
      transpose(at.xt_columns, plan.steps, at.operand, plan.head_cells, plan.steps, plan.head_cells);
      to_rows<Cells>(at.dstate_rows, plan.head_cells, grad, plan.heads, plan.state, plan.heads);
      to_columns<Cells>(at.dstate_columns, plan.heads, grad, plan.heads, plan.state, plan.heads);
      grad_rows = at.dstate_rows;
      grad_columns = at.dstate_columns;
    }
    to_columns<Cells>(at.dy_columns, plan.heads, at.dy, plan.heads, plan.steps, plan.heads);
    to_columns<Cells>(at.dye_columns, plan.heads, at.dy, plan.heads, plan.steps, plan.heads, d.from_begin);
    pairs(shared + plan.cbt, d, row_sum, column_sum);
    inputs(h, begin, count, shared + plan.b_rows, grad_columns, d, direct);
    outer(at.dct, state_rows, at.dyt_columns, d.from_begin, shared + plan.ct, from_state);
    outer(at.dbt, grad_rows, at.xt_columns, d.weight, shared + plan.bt, to_state);
    const double through = d.through == 0.0f ? 0.0 : static_cast<double>(d.through * through_product(grad, state_rows));
    carry_over(grad, grad, d.through, shared + plan.ct_rows, at.dye_columns);
    if (p.D) {
      float* out = partials.D + (s * p.heads + h) * plan.heads;
      for (std::int64_t j = 0; j < plan.heads; j += kLanes) {
        vf sum = load(out + j);
        for (std::int64_t i = 0; i < count; ++i)
          sum += load(at.x + i * plan.heads + j) * load(at.dy + i * plan.heads + j);
        store(out + j, sum);
      }
    }
    grad_dt(h, begin, count, d, row_sum, column_sum, direct, from_state, to_state, through, sums);
  }

  // The decay of step t acts on every pair (l,m) with m < t <= l, on the reads of the old state from t on, on the
  // contributions to the new state from before t, and on the state that passes through.
  void grad_dt(std::int64_t h, std::int64_t begin, std::int64_t count, const Decay& d, const float* row_sum,
               const float* column_sum, const float* direct, const float* from_state, const float* to_state,
               double through, HeadSums& sums) const {
    alignas(64) float raw[kChunk], slope[kChunk];
    read_dt<T>(raw, p, sequence, h, begin, count);
    for (std::int64_t i = 0; i < kChunk; i += kLanes) {
      const vf v = load(raw + i), dt = p.dt_softplus ? softplus(v) : v;
      vf rate = set1(1.0f);
      if (p.dt_softplus) rate = select(v > set1(20.0f), rate, sigmoid(v));
      store(slope + i, select((dt < set1(p.dt_min)) | (dt > set1(p.dt_max)), zero(), rate));
    }
    double reads[kChunk + 1];
    reads[count] = 0.0;
    for (std::int64_t t = count - 1; t >= 0; --t) reads[t] = reads[t + 1] + static_cast<double>(from_state[t]);
    const std::int64_t stride[3] = {p.length * p.heads, p.heads, 1};
    const Steps where = steps(p, sequence, stride);
    T* out = static_cast<T*>(call.grad_dt) + where.offset + begin * where.stride + h;
    double crossing = 0.0, writes = 0.0;
    for (std::int64_t t = 0; t < count; ++t) {
      const double log_decay = crossing + reads[t] + writes + through;
      const double grad = log_decay * static_cast<double>(p.A[h]) + (p.dt_on_x ? static_cast<double>(direct[t]) : 0.0);
      const double grad_raw = grad * static_cast<double>(slope[t]);
      out[t * where.stride] = from_float<T>::cast(static_cast<float>(grad_raw));
      sums.dt_bias += grad_raw;
      sums.A += log_decay * static_cast<double>(d.dt[t]);
      crossing += static_cast<double>(column_sum[t]) - static_cast<double>(row_sum[t]);
      writes += static_cast<double>(to_state[t]);
    }
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
    Decay d;
    HeadSums sums[kHeadBlock];
    for (std::int64_t h = head0; h < head1; ++h) {
      read_state(start(h, 0), p.initial_state, h);
      for (std::int64_t w = 0; !call.chunk_states && w + 1 < window_count; ++w) {
        const float* from = start(h, w);
        for (std::int64_t c = w * kWindow; c < (w + 1) * kWindow; ++c) {
          float* to = c + 1 == (w + 1) * kWindow ? start(h, w + 1) : at.running;
          advance(to, from, h, c, d);
          from = to;
        }
      }
      read_state(dstate(h), call.grad_final_state, h);
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
          back_through_chunk(h, c, call.chunk_states ? saved_state(h, c) : kept_state(h, c - w * kWindow), d,
                             sums[h - head0]);
        finish_chunk(c);
      }
    }
    for (std::int64_t h = head0; h < head1; ++h) {
      partials.A[s * p.heads + h] = static_cast<float>(sums[h - head0].A);
      partials.dt_bias[s * p.heads + h] = static_cast<float>(sums[h - head0].dt_bias);
      if (!call.grad_initial_state) continue;
      float* to = call.grad_initial_state + (s * p.heads + h) * p.head_dim * p.state;
      for (std::int64_t i = 0; i < p.head_dim; ++i)
        for (std::int64_t n = 0; n < p.state; ++n) to[i * p.state + n] = dstate(h)[n * plan.heads + i];
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
  const std::int64_t group_tasks = p.sequence_count * p.groups * plan.chunks, group_slots = plan.group_slots(p);
  parallel(group_slots, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin * group_tasks / group_slots; t < end * group_tasks / group_slots; ++t) {
      const std::int64_t s = t / (p.groups * plan.chunks), g = t / plan.chunks % p.groups;
      const std::int64_t step = t % plan.chunks * kChunk;
      if (step < p.sequences[s].length)
        prepare_group<T>(plan, p, p.sequences[s], g, step, groups + t * plan.group,
                         scratch + begin * plan.group_scratch());
    }
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
  const auto floats = [&](const auto& plan) {
    std::int64_t partials = 0;
    place_partials(plan, p, row_count(p), nullptr, &partials);
    return (plan.groups_size(p) + plan.scratch_size(p) + partials) * static_cast<std::int64_t>(sizeof(float));
  };
#if defined(__AVX512BF16__)
  if (p.dtype == dtype::bf16) return floats(Plan<Bf16Cells>(call));
#endif
  return floats(Plan<FloatCells>(call));
}

void ssd_backward(const SsdBackward& call, void* workspace, const Parallel& parallel) {
  float* floats = static_cast<float*>(workspace);
  const DType type = call.problem.dtype;
  if (type == dtype::f32) return run<float, FloatCells>(call, floats, parallel);
  if (type == dtype::f16) return run<f16, FloatCells>(call, floats, parallel);
#if defined(__AVX512BF16__)
  run<bf16, Bf16Cells>(call, floats, parallel);
#else
  run<bf16, FloatCells>(call, floats, parallel);
#endif
}

}  // namespace mambasdk::MAMBASDK_ISA
