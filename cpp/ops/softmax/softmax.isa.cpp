// Softmax row by row: the exponentials of a row are kept where they are written, or in the first-level cache, until
// their sum is known; those of a longer 16-bit row are computed again.
#include "ops/softmax/softmax.hpp"

#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace softmax;
using Index = std::int64_t;
constexpr Index kPiece = 2048;

MAMBASDK_SIMD vf tail_of(const float* x, int count, float rest) {
  vi places;
  for (int i = 0; i < kLanes; ++i) places[i] = i;
  return select(places < count, load_n(x, count), set1(rest));
}

// f(i, the vector from i on, how many lanes of it count): lanes behind the end hold `rest`.
template <class F>
MAMBASDK_SIMD void for_vectors(const float* x, Index n, float rest, F&& f) {
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, load(x + i), kLanes);
  if (i < n) f(i, tail_of(x + i, static_cast<int>(n - i), rest), static_cast<int>(n - i));
}

// The largest of n elements; a NaN may be passed over: it comes back in the sum.
MAMBASDK_SIMD vf largest_of(const float* x, Index n, vf so_far) {
  vf other = so_far;
  Index i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    so_far = max(load(x + i), so_far);
    other = max(load(x + i + kLanes), other);
  }
  for_vectors(x + i, n - i, -__builtin_inff(),
              [&](Index, vf v, int) __attribute__((always_inline)) { so_far = max(v, so_far); });
  return max(so_far, other);
}

MAMBASDK_SIMD float reduce_max(vf x) {
  alignas(64) float lanes[kLanes];
  store(lanes, x);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
  }
  return lanes[0];
}

class Row {
 public:
  explicit Row(const Args& a) : a_(a) {}

  void run(Index r) {
    if (is_float(a_.x.type) || a_.columns <= kPiece) return run_kept(r);
    run_again(r);
  }

 private:
  // The exponentials are kept in `kept`, the row of y or a buffer.
  void run_kept(Index r) {
    const Index n = a_.columns;
    float* kept = is_float(a_.x.type) ? static_cast<float*>(a_.y) + r * n : kept_;
    const float* x = read_row(a_.x, r, kept, n);  // where it is no float32 of unit stride, a copy in `kept`
    const float largest = reduce_max(largest_of(x, n, set1(-__builtin_inff())));
    const vf shift = set1(largest);
    vf sums = zero();
    if (a_.log) {
      for_vectors(x, n, -__builtin_inff(),
                  [&](Index, vf v, int) __attribute__((always_inline)) { sums = sums + exp(v - shift); });
      const vf logarithm = set1(logarithm_of(reduce_add(sums)));
      for_vectors(x, n, 0.0f, [&](Index i, vf v, int count) __attribute__((always_inline)) {
        store_n(kept + i, (v - shift) - logarithm, count);
      });
    } else {
      for_vectors(x, n, -__builtin_inff(), [&](Index i, vf v, int count) __attribute__((always_inline)) {
        const vf e = exp(v - shift);
        sums = sums + e;
        store_n(kept + i, e, count);
      });
      const vf inverse = set1(1.0f / reduce_add(sums));
      for_vectors(kept, n, 0.0f, [&](Index i, vf v, int count) __attribute__((always_inline)) {
        store_n(kept + i, v * inverse, count);
      });
    }
    write_out(kept, a_.y, a_.x.type, r * n, n);
  }

  // Piece by piece, twice.
  void run_again(Index r) {
    const Index n = a_.columns;
    vf largest = set1(-__builtin_inff()), sums = zero();
    const auto for_pieces = [&](auto&& f) __attribute__((always_inline)) {
      for (Index at = 0; at < n; at += kPiece) {
        const Index count = n - at < kPiece ? n - at : kPiece;
        f(at, read_row(a_.x, r, kept_, count, at), count);
      }
    };
    for_pieces([&](Index, const float* x, Index count) { largest = largest_of(x, count, largest); });
    const vf shift = set1(reduce_max(largest));
    for_pieces([&](Index, const float* x, Index count) {
      for_vectors(x, count, -__builtin_inff(),
                  [&](Index, vf v, int) __attribute__((always_inline)) { sums = sums + exp(v - shift); });
    });
    const float sum = reduce_add(sums);
    const vf inverse = set1(1.0f / sum), logarithm = set1(logarithm_of(sum));
    for_pieces([&](Index at, const float* x, Index count) {
      for_vectors(x, count, 0.0f, [&](Index i, vf v, int lanes) __attribute__((always_inline)) {
        store_n(kept_ + i, a_.log ? (v - shift) - logarithm : exp(v - shift) * inverse, lanes);
      });
      write_out(kept_, a_.y, a_.x.type, r * n + at, count);
    });
  }

  // Of a sum of at least 1, or NaN.
  static float logarithm_of(float sum) {
    const float value = log(set1(sum))[0];
    return sum == sum ? value : sum;
  }

  const Args& a_;
  alignas(64) float kept_[kPiece];
};

}  // namespace

void softmax_rows(const Args& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.x.type == dtype::bf16, softmax_rows(a, parallel));
  const Index grain = a.columns < 8192 ? 8192 / a.columns : 1;
  parallel(a.rows, grain, [&](Index begin, Index end) {
    Row row(a);
    for (Index r = begin; r < end; ++r) row.run(r);
  });
}

}  // namespace mambasdk::MAMBASDK_ISA
