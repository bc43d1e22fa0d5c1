// selective_scan, forward, on a CUDA device. A thread has a channel of a row of the batch (or of a packed sequence),
// its states and their rows of A in registers; B and C, which the channels of a group share, come through shared
// memory, the next steps' while these are taken. A is scaled once so that a decay is one multiplication and one ex2.
// Routes, and more states than 64, follow each other in the thread and are summed in float32 in a workspace of which
// every element is one thread's, so results do not depend on timing.
#include "cuda/device.hpp"
#include "ops/selective_scan/scan_device.hpp"

namespace mambasdk::selective_scan {
namespace {

using namespace cuda;
using Index = std::int64_t;

constexpr float kLog2e = 1.44269504088896f;

template <class T>
MAMBASDK_DEVICE Global<T> place(const StridedView& v) {
  return Global<T>(static_cast<T*>(v.data));
}
template <class T, class... I>
MAMBASDK_DEVICE Global<T> place(const StridedView& v, I... indices) {
  const Index list[] = {indices...};
  Index offset = 0;
  MAMBASDK_UNROLL
  for (int d = 0; d < static_cast<int>(sizeof...(I)); ++d) offset += list[d] * v.stride[d];
  return place<T>(v) + offset;
}

// log(1 + exp(x)) to 3 ulp: log1p(e) = 2 artanh(e / (2 + e)) of e = exp(-|x|) <= 1, by its series.
MAMBASDK_DEVICE float softplus(float x) {
  const float e = exp2_approx(-kLog2e * (x < 0.0f ? -x : x));
  const float s = e * reciprocal_approx(2.0f + e), q = s * s;
  float series = 1.0f / 13.0f;
  series = series * q + 1.0f / 11.0f;
  series = series * q + 1.0f / 9.0f;
  series = series * q + 1.0f / 7.0f;
  series = series * q + 1.0f / 5.0f;
  series = series * q + 1.0f / 3.0f;
  series = series * q + 1.0f;
  return 2.0f * s * series + (x < 0.0f ? 0.0f : x);
}
// z sigmoid(z)
MAMBASDK_DEVICE float gate(float z) {
  return z * reciprocal_approx(1.0f + exp2_approx(-kLog2e * z));
}

template <class T, int kStates>
struct Scan {
  static constexpr int kSteps = device_steps(kStates);
  static constexpr bool kConverts = sizeof(T) < 4;

  const ScanParams& p;
  Index batch, group, first_channel, channel;  // channel is this thread's; beyond the group's there is none
  int channels;                                // of the block
  bool active;

  // Step `taken` in the order in which they are taken is step t of the call; its position; its row of delta, B and C.
  MAMBASDK_DEVICE Index step(Index taken) const { return p.reverse ? p.steps - 1 - taken : taken; }
  MAMBASDK_DEVICE Index position(Index k, Index taken) const {
    return p.order.data != nullptr ? load(place<const std::int32_t>(p.order, k, step(taken))) : step(taken);
  }
  MAMBASDK_DEVICE Index row(Index k, Index taken) const { return p.step_params ? step(taken) : position(k, taken); }

  // ---- what comes through shared memory ----

  template <class E>
  MAMBASDK_DEVICE static void copy(Shared<E> to, Global<const E> from, int bytes) {
    if (bytes == 16) {
      copy_async<16>(to, from);
    } else if (bytes == 4) {
      copy_async<4>(to, from);
    } else {
      store(to, load(from));
    }
  }

  struct Span {
    Index k, n0, begin, end;  // route, first state, the sequence's steps
  };

  // Rows of the block's channels, one a step, zeros where there is no step or channel: at(taken) is a row's place.
  template <class E, class At>
  MAMBASDK_DEVICE void stage_channels(Shared<E> to, int bytes, Index stride, const Span& span, Index first,
                                      At&& at) const {
    const int threads = static_cast<int>(block_size().x), thread = static_cast<int>(thread_index().x);
    const int piece = bytes == 0 ? 1 : bytes / static_cast<int>(sizeof(E)), pieces = threads / piece;
    const int c = thread % pieces * piece;
    MAMBASDK_ROLLED
    for (int i = thread / pieces; i < kSteps; i += piece) {
      const Index taken = first + i;
      const Shared<E> target = to + (i * threads + c);
      if (taken >= span.begin && taken < span.end && c < channels) {
        copy<E>(target, at(taken) + c * stride, bytes);
      } else {
        for (int e = 0; e < piece; ++e) store(target + e, E{});
      }
    }
  }

  MAMBASDK_DEVICE void stage_states(Shared<T> to, const Span& span, Index first) const {
    const int piece = p.state_piece == 0 ? 1 : p.state_piece / static_cast<int>(sizeof(T)), pieces = kStates / piece;
    MAMBASDK_ROLLED
    for (int i = static_cast<int>(thread_index().x); i < 2 * kSteps * pieces; i += static_cast<int>(block_size().x)) {
      const int r = i / pieces, n = i % pieces * piece;  // row: of B, then of C
      const Index taken = first + r % kSteps;
      const Shared<T> target = to + (r * kStates + n);
      if (taken >= span.begin && taken < span.end && span.n0 + n < p.states) {
        const StridedView& v = r < kSteps ? p.B : p.C;
        copy<T>(target, place<const T>(v, batch, span.k, row(span.k, taken), group, span.n0 + n), p.state_piece);
      } else {
        for (int e = 0; e < piece; ++e) store(target + e, T{});
      }
    }
  }

  template <class E>
  MAMBASDK_DEVICE static Shared<E> buffer(int begin) {
    return shared_memory<E>(static_cast<unsigned>(begin));
  }

  // Puts what steps [first, first + kSteps) need on its way to the buffer.
  MAMBASDK_DEVICE void stage(int to, const Span& span, Index first) const {
    stage_states(buffer<T>(to), span, first);
    stage_channels<T>(buffer<T>(to + p.u_begin), p.u_piece, p.u.stride[2], span, first,
                      [&](Index taken) { return place<const T>(p.u, batch, position(span.k, taken), first_channel); });
    with_type(p.wide_delta, [&](auto example) {
      using E = decltype(example);
      stage_channels<E>(buffer<E>(to + p.delta_begin), p.delta_piece, p.delta.stride[3], span, first, [&](Index taken) {
        return place<const E>(p.delta, batch, span.k, row(span.k, taken), first_channel);
      });
    });
    if (p.z.data != nullptr && p.sums == nullptr) {
      with_type(p.wide_z, [&](auto example) {
        using E = decltype(example);
        stage_channels<E>(buffer<E>(to + p.z_begin), p.z_piece, p.z.stride[2], span, first, [&](Index taken) {
          return place<const E>(p.z, batch, position(span.k, taken), first_channel);
        });
      });
    }
    copy_commit();
  }

  template <class F>
  MAMBASDK_DEVICE static void with_type(bool wide, F&& f) {
    if constexpr (kConverts) {
      if (wide) return f(float{});
    }
    f(T{});
  }

  // This thread's value of step i in rows that begin there.
  MAMBASDK_DEVICE static float staged(int begin, bool wide, int i) {
    const int at = i * static_cast<int>(block_size().x) + static_cast<int>(thread_index().x);
    if constexpr (kConverts) {
      if (wide) return load(buffer<const float>(begin) + at);
    }
    return widen(load(buffer<const T>(begin) + at));
  }

  MAMBASDK_DEVICE static void convert(Shared<const T> from, Shared<float> to) {
    for (int i = 2 * static_cast<int>(thread_index().x); i < 2 * kSteps * kStates;
         i += 2 * static_cast<int>(block_size().x)) {
      const Vector<T, 2> halves = load_vector<2>(from + i);
      store_vector<2>(to + i, Vector<float, 2>{{widen(halves.value[0]), widen(halves.value[1])}});
    }
  }

  // ---- outputs ----

  MAMBASDK_DEVICE void write(Global<T> to, float sum, float z) const {
    store(to, narrow<T>(p.z.data != nullptr ? sum * gate(z) : sum));
  }
  MAMBASDK_DEVICE Global<float> sum(Index at) const {
    return Global<float>(p.sums) + ((batch * p.length + at) * p.channels + channel);
  }
  MAMBASDK_DEVICE float read_z(Index at) const {
    if constexpr (kConverts) {
      if (p.wide_z) return load(place<const float>(p.z, batch, at, channel));
    }
    return widen(load(place<const T>(p.z, batch, at, channel)));
  }

  // ---- states ----

  // Of this thread's channel, from state n0 on, zeros where there is none. `from` is state n0's place.
  MAMBASDK_DEVICE int count(Index n0) const {
    return !active ? 0 : p.states - n0 < kStates ? static_cast<int>(p.states - n0) : kStates;
  }
  MAMBASDK_DEVICE void load_states(Global<const float> from, Index stride, Index n0, float (&h)[kStates]) const {
    const int there = count(n0);
    MAMBASDK_UNROLL
    for (int n = 0; n < kStates; ++n, from += stride) h[n] = n < there ? load(from) : 0.0f;
  }
  MAMBASDK_DEVICE void store_states(Global<float> to, Index stride, Index n0, const float (&h)[kStates]) const {
    const int there = count(n0);
    MAMBASDK_UNROLL
    for (int n = 0; n < kStates; ++n, to += stride) {
      if (n < there) store(to, h[n]);
    }
  }
  MAMBASDK_DEVICE Global<float> chunk(Index k, Index q, Index n0) const {
    return place<float>(p.chunk_states, batch, k, q, channel, n0);
  }

  // One step, of y without the gate. A decay of 0 leaves nothing, not even of infinity or NaN.
  MAMBASDK_DEVICE static float take(Shared<const float> rows, int i, float dt, float u, float skip,
                                    const float (&a)[kStates], float lowest, float (&h)[kStates]) {
    if (dt * lowest < -126.0f) {
      MAMBASDK_UNROLL
      for (int n = 0; n < kStates; ++n) h[n] = dt * a[n] < -126.0f ? 0.0f : h[n];
    }
    const float x = dt * u;
    float y[2] = {skip * u, 0.0f};
    MAMBASDK_UNROLL
    for (int n = 0; n < kStates; n += 4) {
      const Vector<float, 4> b = load_vector<4>(rows + (i * kStates + n));
      const Vector<float, 4> c = load_vector<4>(rows + ((kSteps + i) * kStates + n));
      MAMBASDK_UNROLL
      for (int e = 0; e < 4; ++e) {
        h[n + e] = exp2_approx(dt * a[n + e]) * h[n + e] + x * b.value[e];
        y[e % 2] += c.value[e] * h[n + e];
      }
    }
    return y[0] + y[1];
  }

  // ---- one sequence ----

  MAMBASDK_DEVICE void sequence(const Span& span, Index s, const float (&a)[kStates], float lowest) const {
    const Index k = span.k, n0 = span.n0, ahead = p.reverse ? -p.y.stride[1] : p.y.stride[1];
    const float skip = p.D.data != nullptr && n0 == 0 && active ? load(place<const float>(p.D, k, channel)) : 0.0f;
    const float bias =
        p.delta_bias.data != nullptr && active ? load(place<const float>(p.delta_bias, k, channel)) : 0.0f;
    float h[kStates] = {};
    if (p.initial_state.data != nullptr) {
      load_states(place<const float>(p.initial_state, s, k, channel, n0), p.initial_state.stride[3], n0, h);
    }
    if (p.chunk_states.data != nullptr && span.begin == 0 && span.end > 0) {
      const Global<float> zeros = chunk(k, 0, n0);
      for (int n = 0, there = count(n0); n < there; ++n) store(zeros + n * p.chunk_states.stride[4], 0.0f);
    }

    Index first = span.begin / kSteps * kSteps;  // of a tile, so that chunks end with one
    int at = 0, other = p.buffer_bytes;
    if (first < span.end) stage(at, span, first);
    MAMBASDK_ROLLED
    while (first < span.end) {
      if (first + kSteps < span.end) {
        stage(other, span, first + kSteps);
      } else {
        copy_commit();  // of nothing, so that the last group but one is this tile's
      }
      copy_wait<1>();
      barrier();
      Shared<const float> rows = buffer<const float>(at);
      if constexpr (kConverts) {
        convert(buffer<const T>(at), buffer<float>(2 * p.buffer_bytes));
        barrier();
        rows = buffer<const float>(2 * p.buffer_bytes);
      }
      const int from = first < span.begin ? static_cast<int>(span.begin - first) : 0;
      const int to = span.end - first < kSteps ? static_cast<int>(span.end - first) : kSteps;
      Global<T> out = place<T>(p.y, batch, step(first + from), channel);  // where there is no order
      MAMBASDK_ROLLED
      for (int i = from; i < to; ++i, out += ahead) {
        const float raw = staged(at + p.delta_begin, p.wide_delta, i) + bias;
        const float u = staged(at + p.u_begin, false, i);
        const float y = take(rows, i, p.delta_softplus ? softplus(raw) : raw, u, skip, a, lowest, h);
        if (!active) continue;
        if (p.sums != nullptr) {
          add(sum(position(k, first + i)), y);
        } else {
          write(out, y, p.z.data != nullptr ? staged(at + p.z_begin, p.wide_z, i) : 0.0f);
        }
      }
      first += kSteps;
      if (p.chunk_states.data != nullptr && first % kDeviceChunk == 0 && first <= span.end && first < p.steps) {
        store_states(chunk(k, first / kDeviceChunk, n0), p.chunk_states.stride[4], n0, h);
      }
      barrier();  // before these rows are overwritten
      at = other;
      other = p.buffer_bytes - at;
    }
    if (p.final_state.data != nullptr) {
      store_states(place<float>(p.final_state, s, k, channel, n0), p.final_state.stride[3], n0, h);
    }
  }

  // The steps of sequence s in the order in which they are taken.
  MAMBASDK_DEVICE void bounds(Index s, Index& begin, Index& end) const {
    begin = 0;
    end = p.steps;
    if (p.cu_seqlens.data == nullptr) return;
    const Index from = load(place<const std::int32_t>(p.cu_seqlens, s));
    const Index to = load(place<const std::int32_t>(p.cu_seqlens, s + 1));
    begin = p.reverse ? p.steps - to : from;
    end = p.reverse ? p.steps - from : to;
  }

  MAMBASDK_DEVICE void run(Index first_sequence, Index last_sequence) const {
    // The positions that this block writes: a sequence's, or all where an order may lead anywhere.
    Index begin = 0, end = p.length;
    const bool all = p.order.data != nullptr;
    if (!all) bounds(first_sequence, begin, end);
    if (p.sums != nullptr && active) {
      for (Index i = begin; i < end; ++i) store(sum(all ? i : step(i)), 0.0f);
    }
    MAMBASDK_ROLLED
    for (Index n0 = 0; n0 < p.states || n0 == 0; n0 += kStates) {
      MAMBASDK_ROLLED
      for (Index k = 0; k < p.routes; ++k) {
        float a[kStates], lowest = 0.0f;
        load_states(place<const float>(p.A, k, channel, n0), p.A.stride[2], n0, a);
        MAMBASDK_UNROLL
        for (int n = 0; n < kStates; ++n) {
          a[n] *= kLog2e;
          lowest = a[n] < lowest ? a[n] : lowest;
        }
        MAMBASDK_ROLLED
        for (Index s = first_sequence; s < last_sequence; ++s) {
          Span span{k, n0, 0, 0};
          bounds(s, span.begin, span.end);
          sequence(span, s, a, lowest);
        }
      }
    }
    if (p.sums != nullptr && active) {
      for (Index i = begin; i < end; ++i) {
        const Index at = all ? i : step(i);
        write(place<T>(p.y, batch, at, channel), load(sum(at)), p.z.data != nullptr ? read_z(at) : 0.0f);
      }
    }
  }
};

}  // namespace

template <class T, int kStates>
MAMBASDK_KERNEL(kDeviceThreads, device_blocks(kStates))
scan_forward(const ScanParams p) {
  const unsigned row = block_index().x / p.blocks, within = block_index().x % p.blocks;
  const Index group = within / p.group_blocks, base = group * p.group_channels, sequence = row;
  const int threads = static_cast<int>(block_size().x), thread = static_cast<int>(thread_index().x);
  const int first = static_cast<int>(within % p.group_blocks) * threads, left = p.group_channels - first;
  const bool packed = p.cu_seqlens.data != nullptr, together = packed && p.order.data != nullptr;
  const Scan<T, kStates> scan{.p = p,
                              .batch = packed ? 0 : sequence,
                              .group = group,
                              .first_channel = base + first,
                              .channel = base + first + thread,
                              .channels = left < threads ? left : threads,
                              .active = thread < left};
  scan.run(together ? 0 : sequence, together ? p.sequences : sequence + 1);
}

#define MAMBASDK_SCAN_FORWARD(T)                                                               \
  template MAMBASDK_KERNEL(kDeviceThreads, device_blocks(16)) scan_forward<T, 16>(ScanParams); \
  template MAMBASDK_KERNEL(kDeviceThreads, device_blocks(32)) scan_forward<T, 32>(ScanParams); \
  template MAMBASDK_KERNEL(kDeviceThreads, device_blocks(64)) scan_forward<T, 64>(ScanParams)
MAMBASDK_SCAN_FORWARD(float);
MAMBASDK_SCAN_FORWARD(bf16);
MAMBASDK_SCAN_FORWARD(f16);
#undef MAMBASDK_SCAN_FORWARD

}  // namespace mambasdk::selective_scan
