// The product of two real polynomials by complex transforms of half the length. For *.isa.cpp only.
//
// With t^N = i, N points hold a real polynomial of 2 N coefficients: coefficient m + N is the imaginary part of point
// m, and so is it in a product, which needs no separation of spectra. A node of the tree is a remainder modulo t^M -
// a^2; its children are those modulo t^(M/2) - a and t^(M/2) + a (their own roots: a square root of a, and that times
// i), down to M = 1, where a product of remainders is a product of numbers. A node has one root for all its points.
// It is walked depth first, so that the lower nodes stay in the first-level cache. A point is a vector of real parts
// and one of imaginary parts: lanes are channels.
#pragma once

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

inline constexpr std::int64_t kPoint = 2 * kLanes;  // floats of a point

struct Complex {
  vf re, im;
};
struct Root {
  float re, im;
};

MAMBASDK_SIMD Complex load_point(const float* p) {
  return {load(p), load(p + kLanes)};
}
MAMBASDK_SIMD void store_point(float* p, Complex z) {
  store(p, z.re);
  store(p + kLanes, z.im);
}
MAMBASDK_SIMD Complex operator+(Complex a, Complex b) {
  return {a.re + b.re, a.im + b.im};
}
MAMBASDK_SIMD Complex operator-(Complex a, Complex b) {
  return {a.re - b.re, a.im - b.im};
}
MAMBASDK_SIMD Complex operator*(Complex a, Complex b) {
  return {fma(a.re, b.re, zero() - a.im * b.im), fma(a.re, b.im, a.im * b.re)};
}
// z conj(root).
MAMBASDK_SIMD Complex times_conjugate(Complex z, Root root) {
  const vf re = set1(root.re), im = set1(root.im);
  return {fma(z.re, re, z.im * im), fma(z.im, re, zero() - z.re * im)};
}

// (f, g) becomes (f + root g, f - root g), and back to twice (f, g).
MAMBASDK_SIMD void split_pair(Complex& f, Complex& g, Root root) {
  const vf re = set1(root.re), im = set1(root.im);
  const Complex sum{fma(zero() - im, g.im, fma(re, g.re, f.re)), fma(im, g.re, fma(re, g.im, f.im))};
  g = {fma(f.re, set1(2.0f), zero() - sum.re), fma(f.im, set1(2.0f), zero() - sum.im)};
  f = sum;
}
MAMBASDK_SIMD void join_pair(Complex& f, Complex& g, Root root) {
  const Complex difference = f - g;
  f = f + g;
  g = times_conjugate(difference, root);
}

// One or two levels of a node: points of its kParts parts become those of its descendants, and back to kParts times the
// parts. The roots: of the node and of its first child; the second child's is that times i. (Three levels do not stay
// in the registers; they are slower.)
template <int kParts>
struct Levels {
  Root a, b{};

  MAMBASDK_ALWAYS_INLINE Levels(const Root* roots, std::int64_t node) : a(roots[node]) {
    if constexpr (kParts == 4) b = roots[2 * node];
  }
  MAMBASDK_ALWAYS_INLINE void split(Complex (&z)[kParts]) const {
    for (int i = 0; i < kParts / 2; ++i) split_pair(z[i], z[kParts / 2 + i], a);
    if constexpr (kParts == 4) {
      split_pair(z[0], z[1], b);
      split_pair(z[2], z[3], {-b.im, b.re});
    }
  }
  MAMBASDK_ALWAYS_INLINE void join(Complex (&z)[kParts]) const {
    if constexpr (kParts == 4) {
      join_pair(z[0], z[1], b);
      join_pair(z[2], z[3], {-b.im, b.re});
    }
    for (int i = 0; i < kParts / 2; ++i) join_pair(z[i], z[kParts / 2 + i], a);
  }
};

// roots[n] of the nodes 1 to points - 1 of the tree, whose node n has children 2 n and 2 n + 1: half angles from the
// root's, which is pi / 4 (its square is i), in double; `exact` is scratch of as many pairs of doubles.
inline void make_roots(std::int64_t points, Root* roots, double* exact) {
  double *re = exact, *im = exact + points;
  re[1] = im[1] = 0.70710678118654752440;
  for (std::int64_t n = 1; n < points / 2; ++n) {
    // The one of the two that does not cancel; the other follows from sin(2 x) = 2 sin x cos x.
    const double larger = __builtin_sqrt(0.5 + 0.5 * __builtin_fabs(re[n])), smaller = 0.5 * im[n] / larger;
    const double cosine = re[n] < 0.0 ? smaller : larger, sine = re[n] < 0.0 ? larger : smaller;
    re[2 * n] = cosine;
    im[2 * n] = sine;
    re[2 * n + 1] = -sine;
    im[2 * n + 1] = cosine;
  }
  for (std::int64_t n = 1; n < points; ++n) roots[n] = {static_cast<float>(re[n]), static_cast<float>(im[n])};
}

inline constexpr std::int64_t kLeaf = 16;  // points of the lowest nodes that are walked to

// x becomes the product of x and k below a node, modulo that node's polynomial, times the node's points.
class ProductTree {
 public:
  // fresh: k is not transformed yet.
  MAMBASDK_ALWAYS_INLINE ProductTree(const Root* roots_of_nodes, bool fresh) : roots(roots_of_nodes), is_fresh(fresh) {}

  void multiply(std::int64_t node, std::int64_t points, float* x, float* k) const {  // NOLINT(misc-no-recursion)
    if (points == kLeaf) return multiply_leaf(node, x, k);
    points == 2 * kLeaf ? multiply_parts<2>(node, points / 2, x, k) : multiply_parts<4>(node, points / 4, x, k);
  }
  // `count` nodes from `first` on, side by side in x and k.
  void multiply_each(std::int64_t first, int count, std::int64_t points, float* x,  // NOLINT(misc-no-recursion)
                     float* k) const {
    for (int i = 0; i < count; ++i) multiply(first + i, points, x + i * points * kPoint, k + i * points * kPoint);
  }

 private:
  template <int kParts>
  MAMBASDK_ALWAYS_INLINE void multiply_parts(std::int64_t node, std::int64_t part, float* x, float* k) const {
    if (is_fresh) split<kParts>(node, part, k);
    split<kParts>(node, part, x);
    multiply_each(kParts * node, kParts, part, x, k);
    join<kParts>(node, part, x);
  }
  template <int kParts>
  [[gnu::noinline]] void split(std::int64_t node, std::int64_t part, float* x) const {
    const Levels<kParts> levels(roots, node);
    for (float* at = x; at < x + part * kPoint; at += kPoint) {
      Complex z[kParts];
      for (int i = 0; i < kParts; ++i) z[i] = load_point(at + i * part * kPoint);
      levels.split(z);
      for (int i = 0; i < kParts; ++i) store_point(at + i * part * kPoint, z[i]);
    }
  }
  template <int kParts>
  [[gnu::noinline]] void join(std::int64_t node, std::int64_t part, float* x) const {
    const Levels<kParts> levels(roots, node);
    for (float* at = x; at < x + part * kPoint; at += kPoint) {
      Complex z[kParts];
      for (int i = 0; i < kParts; ++i) z[i] = load_point(at + i * part * kPoint);
      levels.join(z);
      for (int i = 0; i < kParts; ++i) store_point(at + i * part * kPoint, z[i]);
    }
  }

  // The lowest two levels are walked down and up in one go.
  [[gnu::noinline]] void multiply_leaf(std::int64_t node, float* x, float* k) const {
    constexpr int kParts = 4;
    if (is_fresh) split<kParts>(node, kLeaf / kParts, k);
    split<kParts>(node, kLeaf / kParts, x);
    for (int i = 0; i < kParts; ++i, x += kParts * kPoint, k += kParts * kPoint) {
      const Levels<kParts> levels(roots, kParts * node + i);
      Complex z[kParts], w[kParts];
      for (int j = 0; j < kParts; ++j) w[j] = load_point(k + j * kPoint);
      if (is_fresh) {
        levels.split(w);
        for (int j = 0; j < kParts; ++j) store_point(k + j * kPoint, w[j]);
      }
      for (int j = 0; j < kParts; ++j) z[j] = load_point(x + j * kPoint);
      levels.split(z);
      for (int j = 0; j < kParts; ++j) z[j] = z[j] * w[j];
      levels.join(z);
      for (int j = 0; j < kParts; ++j) store_point(x + j * kPoint, z[j]);
    }
    join<kParts>(node, kLeaf / kParts, x - kLeaf * kPoint);
  }

  const Root* roots;
  bool is_fresh;
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA
