// attention of few queries against many keys, bound by reading those: a task is a chunk of the keys of one batch entry,
// whose parts are joined at the end. Scores are dot products, lanes are channels.
#include "core/simd_types.hpp"
#include "ops/attention/attention_plan.hpp"
#include "ops/rows_simd.hpp"
#include "ops/vector_sums.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr Index kBlock = 64;      // keys between two looks at the largest score
constexpr int kValueVectors = 4;  // of a query's sums, in registers at once
constexpr Index kAhead = 32;      // keys between reading and asking for them

// Scratch: queries of each batch entry; then, of each chunk and head, its sum of values, largest score, and sum of
// exponentials.
struct Plan {
  Index share, rows, chunks, width, part, parts, size;

  explicit Plan(const Args& a) {
    share = a.heads / a.groups;
    rows = a.queries * share;  // of a group
    chunks = a.keys > kDecodeChunk ? (a.keys + kDecodeChunk - 1) / kDecodeChunk : 1;
    width = whole_vectors(a.width);
    part = whole_vectors(a.value_width) + 16;
    parts = a.batch * a.groups * rows * width;
    size = parts + a.batch * chunks * a.groups * rows * part;
  }
};

template <class T>
class Chunk {
 public:
  Chunk(const Args& args, const Plan& plan, float* scratch, Index batch, Index chunk)
      : a(args), p(plan), b(batch), first(chunk * kDecodeChunk), last(min64(first + kDecodeChunk, args.keys)) {
    queries = scratch + b * a.groups * p.rows * p.width;
    parts = scratch + p.parts + (b * p.chunks + chunk) * a.groups * p.rows * p.part;
  }

  void run() const {
    for (Index r = 0; r < a.groups * p.rows; ++r) {
      float* part = parts + r * p.part;
      for (Index i = 0; i < p.part; i += 1) part[i] = 0.0f;
      *largest(part) = -__builtin_inff();
    }
    for (Index s = first; s < last; s += kBlock) {
      const Index count = min64(kBlock, last - s);
      for (Index g = 0; g < a.groups; ++g) step(g, s, count);
    }
  }

 private:
  [[nodiscard]] float* largest(float* part) const { return part + p.part - 16; }
  [[nodiscard]] float* total(float* part) const { return part + p.part - 15; }
  [[nodiscard]] static const T* at(const StridedView& view, Index i, Index j, Index k) {
    return static_cast<const T*>(view.data) + i * view.stride[0] + j * view.stride[1] + k * view.stride[2];
  }

  void step(Index g, Index s, Index count) const {
    alignas(64) float scores[kDecodeRows][kBlock];
    make_scores(g, s, count, scores);
    float scale[kDecodeRows];
    for (Index r = 0; r < p.rows; ++r) scale[r] = exponentials(g, r, s, count, scores[r]);
    add_values(g, s, count, scores, scale);
  }

  // Four rows at a time, so that a key is read, and widened, once for them.
  void make_scores(Index g, Index s, Index count, float (&scores)[kDecodeRows][kBlock]) const {
    Index r = 0;
    for (; r + 4 <= p.rows; r += 4) dot_products<4>(g, r, s, count, scores);
    if (r + 2 <= p.rows) {
      dot_products<2>(g, r, s, count, scores);
      r += 2;
    }
    if (r < p.rows) dot_products<1>(g, r, s, count, scores);
  }
  template <int kRows>
  [[gnu::noinline]] void dot_products(Index g, Index r, Index s, Index count,
                                      float (&scores)[kDecodeRows][kBlock]) const {
    const T* keys = at(a.k, b, s, g);
    const float* q = queries + (g * p.rows + r) * p.width;
    alignas(64) float sums[kRows][kLanes * kLanes];  // of lanes, of each key
    for (Index j = 0; j < count; j += kLanes) {
      const int here = static_cast<int>(min64(kLanes, count - j));
      for (int key = 0; key < here; ++key) {
        const T* k = keys + (j + key) * a.k.stride[1];
        prefetch_row(k + kAhead * a.k.stride[1], a.width);
        vf sum[kRows] = {};
        for_lanes(a.width, [&](Index e, int n) __attribute__((always_inline)) {
          const vf x = load_n(k + e, n);
#pragma GCC unroll 4
          for (int i = 0; i < kRows; ++i) sum[i] = fma(x, load(q + i * p.width + e), sum[i]);
        });
        for (int i = 0; i < kRows; ++i) store(sums[i] + key * kLanes, sum[i]);
      }
      for (int key = here; key < kLanes; ++key)
        for (int i = 0; i < kRows; ++i) store(sums[i] + key * kLanes, zero());
      for (int i = 0; i < kRows; ++i) store(scores[r + i] + j, reduce_rows(sums[i]));
    }
  }
  // Rows of a head lie apart: what prefetches lines in a row does not find them.
  static void prefetch_row(const T* row, Index width) {
    for (Index i = 0; i < width; i += 64 / static_cast<Index>(sizeof(T))) __builtin_prefetch(row + i);
  }

  // Returns what earlier sums are to be scaled by.
  float exponentials(Index g, Index r, Index s, Index count, float* scores) const {
    const Index l = r / p.share, h = g * p.share + r % p.share;
    if (a.mask.data != nullptr) {
      const T* mask = at(a.mask, b, h, l) + s * a.mask.stride[3];
      for (Index i = 0; i < count; ++i) scores[i] += to_float(mask[i * a.mask.stride[3]]) * kLog2e;
    }
    const Range seen = a.visible(l);
    for (Index i = 0; i < count; ++i)
      if (s + i < seen.begin || s + i >= seen.end) scores[i] = -__builtin_inff();
    float* part = parts + (g * p.rows + r) * p.part;
    vf most = set1(*largest(part)), sum = zero();
    for (Index i = count; i < whole_vectors(count); ++i) scores[i] = -__builtin_inff();
    for (Index i = 0; i < count; i += kLanes) most = max(most, load(scores + i));
    float now = most[0];
    for (int i = 1; i < kLanes; ++i) now = most[i] > now ? most[i] : now;
    const float shift = now == -__builtin_inff() ? 0.0f : now;
    for (Index i = 0; i < count; i += kLanes) {
      const vf e = exp2(load(scores + i) - shift);
      sum = sum + e;
      store(scores + i, e);
    }
    const float scale = exp2(set1(*largest(part) - shift))[0];
    *largest(part) = now;
    *total(part) = *total(part) * scale + reduce_add(sum);
    return scale;
  }

  void add_values(Index g, Index s, Index count, const float (&scores)[kDecodeRows][kBlock],
                  const float (&scale)[kDecodeRows]) const {
    for (Index r = 0; r < p.rows;) {
      const Range seen = a.visible(r / p.share);
      const Range keys{within(seen.begin - s, count), within(seen.end - s, count)};
      // Together where they see the same keys: 0 times a hidden value need not be 0.
      if (r + 4 <= p.rows && a.visible((r + 3) / p.share).end == seen.end) {
        add_rows<4>(g, r, s, keys, scores, scale);
        r += 4;
      } else {
        add_rows<1>(g, r, s, keys, scores, scale);
        r += 1;
      }
    }
  }
  static Index within(Index key, Index count) { return key < 0 ? 0 : min64(key, count); }
  template <int kRows>
  void add_rows(Index g, Index r, Index s, Range keys, const float (&scores)[kDecodeRows][kBlock],
                const float (&scale)[kDecodeRows]) const {
    Index f = 0;
    for (; f + kValueVectors * kLanes <= a.value_width; f += kValueVectors * kLanes)
      add_columns<kRows, kValueVectors>(g, r, s, keys, f, kLanes, scores, scale);
    for (; f < a.value_width; f += kLanes)
      add_columns<kRows, 1>(g, r, s, keys, f, static_cast<int>(min64(kLanes, a.value_width - f)), scores, scale);
  }
  template <int kRows, int NV>
  [[gnu::noinline]] void add_columns(Index g, Index r, Index s, Range keys, Index f, int lanes,
                                     const float (&scores)[kDecodeRows][kBlock],
                                     const float (&scale)[kDecodeRows]) const {
    const T* values = at(a.v, b, s, g) + f;
    float* sums = parts + (g * p.rows + r) * p.part + f;
    constexpr int kChains = kRows == 1 ? 2 : 1;  // so that the next key need not wait for the last
    vf acc[kChains][kRows][NV] = {};
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < NV; ++v) acc[0][i][v] = load(sums + i * p.part + v * kLanes) * scale[r + i];
    const auto add = [&](Index key, vf(&to)[kRows][NV]) __attribute__((always_inline)) {
      const T* row = values + key * a.v.stride[1];
      prefetch_row(row + kAhead * a.v.stride[1], NV * kLanes);
      vf x[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) x[v] = NV == 1 ? load_n(row, lanes) : load(row + v * kLanes);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) {
        const vf weight = set1(scores[r + i][key]);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) to[i][v] = fma(x[v], weight, to[i][v]);
      }
    };
    Index key = keys.begin;
    for (; key + kChains <= keys.end; key += kChains)
      for (int c = 0; c < kChains; ++c) add(key + c, acc[c]);
    if (key < keys.end) add(key, acc[0]);
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < NV; ++v)
        store(sums + i * p.part + v * kLanes, kChains == 2 ? acc[0][i][v] + acc[kChains - 1][i][v] : acc[0][i][v]);
  }
  const Args& a;
  const Plan& p;
  Index b, first, last;
  float *queries, *parts;
};

// Row r of a group, scaled so that a power of two takes the place of the exponential; zeros behind it.
template <class T>
void read_query(const Args& a, const Plan& p, Index b, Index g, Index r, float* out) {
  const T* q = static_cast<const T*>(a.q.data) + b * a.q.stride[0] + r / p.share * a.q.stride[1] +
               (g * p.share + r % p.share) * a.q.stride[2];
  for (Index e = 0; e < p.width; ++e) out[e] = e < a.width ? to_float(q[e * a.q.stride[3]]) * (a.scale * kLog2e) : 0.0f;
}

// The chunks' parts, in their order, as one row of y.
template <class T>
void join(const Args& a, const Plan& p, const float* scratch, Index b, Index g, Index r) {
  const auto part = [&](Index chunk) __attribute__((always_inline)) {
    return scratch + p.parts + (((b * p.chunks + chunk) * a.groups + g) * p.rows + r) * p.part;
  };
  float most = -__builtin_inff(), total = 0.0f;
  for (Index c = 0; c < p.chunks; ++c) {
    const float of_chunk = part(c)[p.part - 16];
    most = of_chunk > most || of_chunk != of_chunk ? of_chunk : most;
  }
  const auto weight = [&](Index c) __attribute__((always_inline)) {
    return exp2(set1(part(c)[p.part - 16] - (most == -__builtin_inff() ? 0.0f : most)));
  };
  for (Index c = 0; c < p.chunks; ++c) total += part(c)[p.part - 15] * weight(c)[0];
  const float over = total == 0.0f ? 0.0f : 1.0f / total;
  const Index h = g * p.share + r % p.share;
  T* y = static_cast<T*>(a.y) + ((b * a.queries + r / p.share) * a.heads + h) * a.value_width;
  for_lanes(a.value_width, [&](Index f, int n) __attribute__((always_inline)) {
    vf sum = zero();
    for (Index c = 0; c < p.chunks; ++c) sum = fma(load(part(c) + f), weight(c), sum);
    store_n(y + f, sum * over, n);
  });
}

}  // namespace

std::int64_t attention_decode_workspace_bytes(const Args& a) {
  return Plan(a).size * static_cast<Index>(sizeof(float));
}

void attention_decode(const Args& a, void* workspace, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.type == dtype::bf16, attention_decode(a, workspace, parallel));
  const Plan plan(a);
  auto* scratch = static_cast<float*>(workspace);
  with_own_type(a.type, [&]<class T>(T) {
    const Index of_batch = a.groups * plan.rows;
    const auto for_rows = [&](auto&& f) {
      parallel(a.batch * of_batch, 64, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) f(i / of_batch, i % of_batch / plan.rows, i % plan.rows, i);
      });
    };
    for_rows([&](Index b, Index g, Index r, Index i) { read_query<T>(a, plan, b, g, r, scratch + i * plan.width); });
    const Index work = min64(a.keys, kDecodeChunk) * a.groups * (a.width + a.value_width) * plan.rows + 1;
    parallel(a.batch * plan.chunks, 1 + 32768 / work, [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) Chunk<T>(a, plan, scratch, t / plan.chunks, t % plan.chunks).run();
    });
    for_rows([&](Index b, Index g, Index r, Index) { join<T>(a, plan, scratch, b, g, r); });
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
