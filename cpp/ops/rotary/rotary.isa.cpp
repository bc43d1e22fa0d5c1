// rotary: bound by reading and writing x once. The heads of a position share its sines and cosines.
#include "ops/rotary/rotary.hpp"

#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace rotary;
using Index = std::int64_t;

struct EvenPlaces {
  static constexpr int at(int j) { return 2 * j; }
};
struct OddPlaces {
  static constexpr int at(int j) { return 2 * j + 1; }
};
struct LowPairs {
  static constexpr int at(int j) { return j / 2 + (j % 2) * kLanes; }
};
struct HighPairs {
  static constexpr int at(int j) { return j / 2 + (j % 2) * kLanes + kLanes / 2; }
};

struct Turned {
  vf u, v;
};
MAMBASDK_SIMD Turned turn(vf u, vf v, vf cos, vf sin) {
  return {fma(u, cos, zero() - v * sin), fma(v, cos, u * sin)};
}

// One head at one position, x and y of unit stride.
template <class T>
MAMBASDK_SIMD void turn_halves(const T* x, T* y, const float* cos, const float* sin, Index pairs) {
  for_lanes(pairs, [&](Index r, int n) __attribute__((always_inline)) {
    const Turned t = turn(load_n(x + r, n), load_n(x + pairs + r, n), load_n(cos + r, n), load_n(sin + r, n));
    store_n(y + r, t.u, n);
    store_n(y + pairs + r, t.v, n);
  });
}
template <class T>
MAMBASDK_SIMD void turn_neighbours(const T* x, T* y, const float* cos, const float* sin, Index pairs) {
  for_lanes(pairs, [&](Index r, int n) __attribute__((always_inline)) {
    // The 2 n channels of n pairs, in two vectors.
    const int low = 2 * n < kLanes ? 2 * n : kLanes, high = 2 * n - low;
    const vf a = load_n(x + 2 * r, low), b = high > 0 ? load_n(x + 2 * r + kLanes, high) : zero();
    const Turned t = turn(shuffle<EvenPlaces>(a, b), shuffle<OddPlaces>(a, b), load_n(cos + r, n), load_n(sin + r, n));
    store_n(y + 2 * r, shuffle<LowPairs>(t.u, t.v), low);
    if (high > 0) store_n(y + 2 * r + kLanes, shuffle<HighPairs>(t.u, t.v), high);
  });
}
template <class T>
void turn_strided(const Args& a, const T* x, T* y, const float* cos, const float* sin) {
  const Index step = a.x.stride[3];
  for (Index r = 0; r < a.pairs; ++r) {
    const Index i = a.interleaved ? 2 * r : r, j = a.interleaved ? 2 * r + 1 : a.pairs + r;
    const float u = to_float(x[i * step]), v = to_float(x[j * step]);
    y[i] = from_float<T>::cast(u * cos[r] - v * sin[r]);
    y[j] = from_float<T>::cast(v * cos[r] + u * sin[r]);
  }
  for (Index e = 2 * a.pairs; e < a.width; ++e) y[e] = x[e * step];
}

void copy_tables(const Args& a, const Parallel& parallel) {
  parallel(a.length, 1 + 16384 / a.pairs, [&](Index begin, Index end) {
    for (Index l = begin; l < end; ++l) {
      float* out = a.tables + 2 * l * a.pairs;
      widen(static_cast<const float*>(a.cos.data) + l * a.cos.stride[0], a.cos.stride[1], out, a.pairs);
      widen(static_cast<const float*>(a.sin.data) + l * a.sin.stride[0], a.sin.stride[1], out + a.pairs, a.pairs);
    }
  });
}

template <class T>
void turn_positions(const Args& a, Index begin, Index end) {
  for (Index i = begin; i < end; ++i) {
    const Index b = i / a.length, l = i % a.length;
    const float* cos = static_cast<const float*>(a.cos.data) + l * a.cos.stride[0];
    const float* sin = static_cast<const float*>(a.sin.data) + l * a.sin.stride[0];
    if (a.tables != nullptr) {
      cos = a.tables + 2 * l * a.pairs;
      sin = cos + a.pairs;
    }
    for (Index h = 0; h < a.heads; ++h) {
      const T* x = static_cast<const T*>(a.x.data) + b * a.x.stride[0] + l * a.x.stride[1] + h * a.x.stride[2];
      T* y = static_cast<T*>(a.y) + (i * a.heads + h) * a.width;
      if (a.x.stride[3] != 1) {
        turn_strided(a, x, y, cos, sin);
        continue;
      }
      if (a.interleaved) {
        turn_neighbours(x, y, cos, sin, a.pairs);
      } else {
        turn_halves(x, y, cos, sin, a.pairs);
      }
      const Index rest = a.width - 2 * a.pairs;
      if (rest > 0) __builtin_memcpy(y + 2 * a.pairs, x + 2 * a.pairs, static_cast<std::size_t>(rest) * sizeof(T));
    }
  }
}

}  // namespace

void rotary(const Args& a, const Parallel& parallel) {
  if (a.tables != nullptr) copy_tables(a, parallel);
  parallel(a.batch * a.length, 1 + 16384 / (a.heads * a.width),
           [&](Index begin, Index end) { with_type(a.type, [&]<class T>(T) { turn_positions<T>(a, begin, end); }); });
}

}  // namespace mambasdk::MAMBASDK_ISA
