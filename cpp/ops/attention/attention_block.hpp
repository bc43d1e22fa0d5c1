// One block of queries against the keys they see, in blocks of keys. For *.isa.cpp only.
//
// A lane is a query. Scores, probabilities and sums of values are kept transposed, (key, query) and (channel, query):
// then keys and values are the left factors of both products and are read where they lie, element by element, and
// softmax needs no sums across lanes. Sums are rescaled as the largest score grows (arXiv 2112.05682).
#pragma once

#include "kernels/transpose.hpp"
#include "ops/attention/attention_plan.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// Rows r0, r0 + 1, … of the queries of one group of heads: row r is head r % share of query r / share.
template <class T, int NV>
class QueryBlock {
 public:
  QueryBlock(const Args& args, const BlockPlan& plan, float* scratch, Index batch, Index group, Index first)
      : a(args), p(plan), memory(scratch), b(batch), g(group), r0(first), share(args.heads / args.groups) {
    const Index left = a.queries * share - r0;
    rows = static_cast<int>(min64(left, kWidth));
    first_range = a.visible(r0 / share);
    last_range = a.visible((r0 + rows - 1) / share);
    for (int v = 0; v < NV; ++v) {
      most[v] = set1(-__builtin_inff());
      total[v] = zero();
    }
  }

  void run() {
    pack_queries();
    const Index begin = first_range.begin, end = last_range.end;
    if (begin >= end) clear_sums();
    for (Index s = begin; s < end; s += kKeyBlock) {
      const Index count = min64(kKeyBlock, end - s);
      make_scores(s, count);
      const bool partial = hide(s, count);
      vf scale[NV];
      const bool rescale = exponentials(count, scale);
      add_values(s, count, s == begin, rescale, scale, partial);
    }
    for (int v = 0; v < NV; ++v) total[v] = select(total[v] == zero(), zero(), 1.0f / total[v]);
    write_y();
    if (a.probabilities != nullptr) write_probabilities();
  }

 private:
  static constexpr Index kWidth = NV * kLanes;

  [[nodiscard]] Index query(int i) const { return (r0 + i) / share; }
  [[nodiscard]] Index head(int i) const { return g * share + (r0 + i) % share; }
  [[nodiscard]] float* scores() const { return memory + p.scores; }
  [[nodiscard]] float* sums() const { return memory + p.sums; }
  [[nodiscard]] static const T* at(const StridedView& view, Index i, Index j, Index k) {
    return static_cast<const T*>(view.data) + i * view.stride[0] + j * view.stride[1] + k * view.stride[2];
  }

  // (channel, query), scaled so that a power of two takes the place of the exponential.
  void pack_queries() {
    float* out = memory + p.queries;
    const Index step = a.width > 1 ? a.q.stride[3] : 1;
    const vf scale = set1(a.scale * kLog2e);
    for (int v = 0; v < NV; ++v) {
      for (Index e = 0; e < a.width; e += kLanes) {
        const int count = static_cast<int>(min64(kLanes, a.width - e));
        vf square[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          const int row = v * kLanes + i;
          square[i] =
              row < rows ? scale * load_strided(at(a.q, b, query(row), head(row)) + e * step, step, count) : zero();
        }
        transpose(square);
        for (int i = 0; i < kLanes; ++i) store(out + (e + i) * kWidth + v * kLanes, square[i]);
      }
    }
  }
  void clear_sums() {
    for (Index i = 0; i < a.value_width * kWidth; i += kLanes) store(sums() + i, zero());
  }

  // Rows [s, s + count) of the keys or values, copied where they are not float32 of unit stride.
  Matrix rows_of(const StridedView& view, Index width, Index s, Index count, float* copy) const {
    const T* from = at(view, b, s, g);
    const Index step = width > 1 ? view.stride[3] : 1;
    if constexpr (std::is_same_v<T, float>) {
      if (step == 1) return {from, view.stride[1]};
    }
    for (Index i = 0; i < count; ++i) widen(from + i * view.stride[1], step, copy + i * width, width);
    return {copy, width};
  }

  void make_scores(Index s, Index count) {
    const Matrix k = rows_of(a.k, a.width, s, count, memory + p.keys);
    for_tiles(count, [&](auto height, Index i) __attribute__((always_inline)) {
      vf acc[decltype(height)::value][NV];
      clear_tile(acc);
      multiply_tile(acc, k.data + i * k.stride, k.stride, memory + p.queries, kWidth, a.width);
      store_tile(acc, scores() + i * kWidth, kWidth);
    });
  }

  // Adds the mask, and -inf where a query does not see a key. Returns whether there is such a key.
  bool hide(Index s, Index count) {
    if (a.mask.data != nullptr) add_mask(s, count);
    if (s >= last_range.begin && s + count <= first_range.end) return false;
    alignas(64) std::int32_t begin[kWidth], end[kWidth];
    for (int i = 0; i < kWidth; ++i) {
      const Range range = a.visible(query(i < rows ? i : rows - 1));
      const auto in_block = [&](Index key) { return static_cast<std::int32_t>(key < s ? 0 : min64(key - s, count)); };
      begin[i] = in_block(range.begin);
      end[i] = in_block(range.end);
    }
    for (int v = 0; v < NV; ++v) {
      __builtin_memcpy(&seen_from[v], begin + v * kLanes, sizeof(vi));
      __builtin_memcpy(&seen_to[v], end + v * kLanes, sizeof(vi));
    }
    for (Index i = 0; i < count; ++i) {
      for (int v = 0; v < NV; ++v) {
        float* score = scores() + i * kWidth + v * kLanes;
        store(score, select(sees(i, v), load(static_cast<const float*>(score)), set1(-__builtin_inff())));
      }
    }
    return true;
  }
  // After hide() of a block that is seen in part.
  [[nodiscard]] vi sees(Index i, int v) const {
    const vi key = vi{} + static_cast<std::int32_t>(i);
    return (key >= seen_from[v]) & (key < seen_to[v]);
  }

  void add_mask(Index s, Index count) {
    const Index step = a.mask.stride[3];
    if (a.mask.stride[2] == 0 && (share == 1 || a.mask.stride[1] == 0)) {  // the same for every row
      const T* mask = at(a.mask, b, head(0), 0) + s * step;
      for (Index i = 0; i < count; ++i) {
        const vf value = set1(to_float(mask[i * step]) * kLog2e);
        for (int v = 0; v < NV; ++v) {
          float* score = scores() + i * kWidth + v * kLanes;
          store(score, load(static_cast<const float*>(score)) + value);
        }
      }
      return;
    }
    for (int v = 0; v < NV; ++v) {
      for (Index i = 0; i < count; i += kLanes) {
        const int keys = static_cast<int>(min64(kLanes, count - i));
        vf square[kLanes];
        for (int lane = 0; lane < kLanes; ++lane) {
          const int row = v * kLanes + lane;
          square[lane] =
              row < rows ? load_strided(at(a.mask, b, head(row), query(row)) + (s + i) * step, step, keys) : zero();
        }
        transpose(square);
        for (int key = 0; key < keys; ++key) {
          float* score = scores() + (i + key) * kWidth + v * kLanes;
          store(score, fma(square[key], set1(kLog2e), load(static_cast<const float*>(score))));
        }
      }
    }
  }

  // Scores become exponentials of what they are below the largest. Returns whether earlier sums are to be scaled.
  bool exponentials(Index count, vf (&scale)[NV]) {
    vf largest[NV], sum[NV];
    for (int v = 0; v < NV; ++v) {
      largest[v] = most[v];
      sum[v] = zero();
    }
    for (Index i = 0; i < count; ++i)
      for (int v = 0; v < NV; ++v) largest[v] = max(largest[v], load(scores() + i * kWidth + v * kLanes));
    vf changed = zero();
    for (int v = 0; v < NV; ++v) {
      const vf old = most[v];
      most[v] = largest[v];
      largest[v] = shift(v);
      scale[v] = exp2(old - largest[v]);
      changed = changed + select(scale[v] == set1(1.0f), zero(), set1(1.0f));
    }
    for (Index i = 0; i < count; ++i) {
      for (int v = 0; v < NV; ++v) {
        float* score = scores() + i * kWidth + v * kLanes;
        const vf e = exp2(load(static_cast<const float*>(score)) - largest[v]);
        sum[v] = sum[v] + e;
        store(score, e);
      }
    }
    for (int v = 0; v < NV; ++v) total[v] = fma(total[v], scale[v], sum[v]);
    return reduce_add(changed) != 0.0f;
  }
  // What is taken from a score: 0 where all are -inf, so that their exponentials are 0.
  [[nodiscard]] vf shift(int v) const { return select(most[v] == set1(-__builtin_inff()), zero(), most[v]); }

  void add_values(Index s, Index count, bool start, bool rescale, const vf (&scale)[NV], bool partial) {
    const Matrix x = rows_of(a.v, a.value_width, s, count, memory + p.values);
    const bool select_keys = partial && !is_finite(x, count);
    for_tiles(a.value_width, [&](auto height, Index f) __attribute__((always_inline)) {
      constexpr int kHeight = decltype(height)::value;
      vf acc[kHeight][NV];
      float* sum = sums() + f * kWidth;
      if (start) {
        clear_tile(acc);
      } else {
        load_tile(acc, sum, kWidth);
        if (rescale) {
          for (int i = 0; i < kHeight; ++i)
            for (int v = 0; v < NV; ++v) acc[i][v] = acc[i][v] * scale[v];
        }
      }
      if (__builtin_expect(select_keys, 0)) {
        add_seen(acc, x.data + f, x.stride, count);
      } else {
        multiply_tile<kHeight, NV, Layout::column_major>(acc, x.data + f, x.stride, scores(), kWidth, count);
      }
      store_tile(acc, sum, kWidth);
    });
  }
  [[nodiscard]] bool is_finite(const Matrix& x, Index count) const {
    vf sum = zero();
    for (Index i = 0; i < count; ++i) {
      for_lanes(a.value_width, [&](Index f, int n) __attribute__((always_inline)) {
        sum = fma(load_n(x.data + i * x.stride + f, n), zero(), sum);
      });
    }
    return reduce_add(sum) == 0.0f;
  }
  // The same sums where 0 times a value that is not finite would reach queries that do not see its key.
  template <int kHeight>
  void add_seen(vf (&acc)[kHeight][NV], const float* x, Index stride, Index count) const {
    for (Index i = 0; i < count; ++i) {
      for (int v = 0; v < NV; ++v) {
        const vf weight = load(scores() + i * kWidth + v * kLanes);
        for (int f = 0; f < kHeight; ++f)
          acc[f][v] = select(sees(i, v), fma(set1(x[i * stride + f]), weight, acc[f][v]), acc[f][v]);
      }
    }
  }

  void write_y() {
    for (int v = 0; v < NV; ++v) {
      for (Index f = 0; f < a.value_width; f += kLanes) {
        const int count = static_cast<int>(min64(kLanes, a.value_width - f));
        vf square[kLanes];
        for (int i = 0; i < kLanes; ++i)
          square[i] = i < count ? load(sums() + (f + i) * kWidth + v * kLanes) * total[v] : zero();
        transpose(square);
        for (int i = 0; i < kLanes && v * kLanes + i < rows; ++i) {
          const int row = v * kLanes + i;
          T* y = static_cast<T*>(a.y) + ((b * a.queries + query(row)) * a.heads + head(row)) * a.value_width;
          store_n(y + f, square[i], count);
        }
      }
    }
  }

  // The scores once more, now that the largest and the sums are known.
  void write_probabilities() {
    for (Index s = 0; s < a.keys; s += kKeyBlock) {
      const Index count = min64(kKeyBlock, a.keys - s);
      const bool seen = s < last_range.end && s + count > first_range.begin;
      bool partial = false;
      if (seen) {
        make_scores(s, count);
        partial = hide(s, count);
      }
      for (int v = 0; v < NV; ++v) {
        for (Index i = 0; i < count; i += kLanes) {
          const int keys = static_cast<int>(min64(kLanes, count - i));
          vf square[kLanes];
          for (int key = 0; key < kLanes; ++key) {
            square[key] = zero();
            if (!seen || key >= keys) continue;
            square[key] = exp2(load(scores() + (i + key) * kWidth + v * kLanes) - shift(v)) * total[v];
            if (partial) square[key] = select(sees(i + key, v), square[key], zero());  // the sum may be NaN
          }
          transpose(square);
          for (int lane = 0; lane < kLanes && v * kLanes + lane < rows; ++lane) {
            const int row = v * kLanes + lane;
            T* to_row =
                static_cast<T*>(a.probabilities) + ((b * a.heads + head(row)) * a.queries + query(row)) * a.keys;
            store_n(to_row + s + i, square[lane], keys);
          }
        }
      }
    }
  }

  const Args& a;
  const BlockPlan& p;
  float* memory;
  Index b, g, r0, share;
  int rows;
  Range first_range, last_range;  // of the first row and the last: both ends grow with the rows
  vf most[NV], total[NV];         // the largest score; the sum of exponentials, at last one over it
  vi seen_from[NV], seen_to[NV];  // keys of the block that are seen, where not all are
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
