// Float vectors of the instruction set being compiled, and their mathematics. For *.isa.cpp only.
//
// `vf` holds kLanes floats (gcc/clang vector extension: + - * / compare work; a*b+c contracts to FMA).
// Every function is always_inline inside namespace mambasdk::MAMBASDK_ISA, so nothing leaks to other variants.
#pragma once

#include <utility>

#include "core/isa.hpp"

#if !defined(MAMBASDK_ISA)
#error "core/simd.hpp is for files compiled per instruction set (*.isa.cpp)"
#endif
#if defined(__AVX2__)
// gcc 12 takes the "undefined" operands inside its own intrinsics for uninitialised variables (its bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#elif defined(__x86_64__)
#include <xmmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AMX_BF16__) || defined(__AMXBF16__)  // clang before 15
#define MAMBASDK_AMX 1
#endif

#define MAMBASDK_SIMD static inline __attribute__((always_inline))

namespace mambasdk::MAMBASDK_ISA {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float vf __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t vi __attribute__((vector_size(kLanes * 4)));
typedef std::uint32_t vu __attribute__((vector_size(kLanes * 4)));
typedef float vf_unaligned __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef std::uint16_t vh __attribute__((vector_size(kLanes * 2)));  // 16-bit payloads
typedef std::uint16_t vh_unaligned __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

MAMBASDK_SIMD vf set1(float x) {
  return x - vf{};
}
MAMBASDK_SIMD vf zero() {
  return vf{};
}
MAMBASDK_SIMD vu bits_of(vf x) {
  return (vu)x;
}
MAMBASDK_SIMD vf from_bits(vu x) {
  return (vf)x;
}
MAMBASDK_SIMD vf select(vi mask, vf yes, vf no) {
#if defined(__AVX512F__)
  return mask ? yes : no;  // one instruction, by a mask register
#endif
  return (vf)(((vi)yes & mask) | ((vi)no & ~mask));
}

// Element i of the result is element Order::at(i) of a and b, one behind the other.
template <class Order, class V, int... i>
MAMBASDK_SIMD V shuffle_places(V a, V b, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(a, b, Order::at(i)...);
}
template <class Order, class V>
MAMBASDK_SIMD V shuffle(V a, V b) {
  return shuffle_places<Order>(a, b, std::make_integer_sequence<int, sizeof(V) / sizeof(V{}[0])>{});
}

// Lane i is lane places[i] of a and b, one behind the other.
MAMBASDK_SIMD vf pick(vf a, vf b, vi places) {
#if defined(__AVX512F__)
  return (vf)_mm512_permutex2var_ps((__m512)a, (__m512i)places, (__m512)b);
#else
  float both[2 * kLanes];
  __builtin_memcpy(both, &a, sizeof a);
  __builtin_memcpy(both + kLanes, &b, sizeof b);
  vf out;
  for (int i = 0; i < kLanes; ++i) out[i] = both[places[i]];
  return out;
#endif
}

MAMBASDK_SIMD vf min(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return select(a < b, a, b);
#endif
}
MAMBASDK_SIMD vf max(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return select(a > b, a, b);
#endif
}

// The larger of a and x, and NaN once either is NaN.
MAMBASDK_SIMD vf max_or_nan(vf a, vf x) {
#if defined(__AVX512F__)
  const __mmask16 is_number = _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_ORD_Q);
  return (vf)_mm512_mask_max_ps((__m512)x, is_number, (__m512)x, (__m512)a);
#else
  return select(x != x, x, max(x, a));  // max gives its second argument where one is NaN
#endif
}

// a*b+c in one rounding wherever the instruction set has it. `a * b + c` contracts too, but only where the compiler
// keeps both in one basic block; sums that must come out the same from several instantiations say fma.
MAMBASDK_SIMD vf fma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

MAMBASDK_SIMD vf sqrt(vf x) {
#if defined(__AVX512F__)
  return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
  return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(__aarch64__)
  return (vf)vsqrtq_f32((float32x4_t)x);
#elif defined(__x86_64__)
  return (vf)_mm_sqrt_ps((__m128)x);
#else
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// The nearest integer, the even one of two; floats from 2^23 on are integers.
MAMBASDK_SIMD vf nearest(vf x) {
  const vu sign = bits_of(x) & 0x80000000u;
  const vf size = from_bits(bits_of(x) ^ sign);
  return select(size < 0x1p23f, from_bits(bits_of((size + 0x1p23f) - 0x1p23f) | sign), x);
}
MAMBASDK_SIMD vf floor(vf x) {
  const vf n = nearest(x);
  return n - select(n > x, set1(1.0f), zero());
}

// ---- memory: any of float, bf16, f16; unaligned; `_n` forms touch only the first n elements, the rest read as 0 ----

MAMBASDK_SIMD vf load(const float* p) {
  return (vf) * reinterpret_cast<const vf_unaligned*>(p);
}
// The bits of a vector from memory of any type and alignment.
MAMBASDK_SIMD vf load_bits(const void* p) {
  vf x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
MAMBASDK_SIMD void store(float* p, vf x) {
  *reinterpret_cast<vf_unaligned*>(p) = (vf_unaligned)x;
}

MAMBASDK_SIMD vf widen_bf16(vh h) {
#if defined(__AVX512BW__)
  // One permutation of words into the upper halves, zeros below; widening and shifting would take two of those slots.
  vi places;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) places[i] = i << 16;
  return (vf)_mm512_maskz_permutexvar_epi16(0xaaaaaaaau, (__m512i)places, _mm512_castsi256_si512((__m256i)h));
#else
  return from_bits(__builtin_convertvector(h, vu) << 16);
#endif
}
MAMBASDK_SIMD vh narrow_bf16(vf x) {  // round to nearest even, NaN kept
#if defined(__AVX512BF16__)
  // The instruction takes subnormals for zero: those, which are rare, go the long way.
  if (__builtin_expect(_mm512_fpclass_ps_mask((__m512)x, 0x20) == 0, 1)) return (vh)_mm512_cvtneps_pbh((__m512)x);
#endif
  const vu bits = bits_of(x);
  const vu rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const vu quiet = (bits >> 16) | 0x40u;
  const vi is_nan = x != x;
  return __builtin_convertvector(((vu)is_nan & quiet) | (~(vu)is_nan & rounded), vh);
}
MAMBASDK_SIMD vf widen_f16(vh h) {
#if defined(__AVX512F__)
  return (vf)_mm512_cvtph_ps((__m256i)h);
#elif defined(__F16C__)
  return (vf)_mm256_cvtph_ps((__m128i)h);
#elif defined(__aarch64__)
  return (vf)vcvt_f32_f16((float16x4_t)h);
#else
  // As to_float, on vectors.
  const vu wide = __builtin_convertvector(h, vu);
  const vu magnitude = (wide & 0x7fffu) << 13;
  const vf scaled = from_bits(magnitude) * 0x1p112f;
  const vi is_special = (vi)magnitude >= 0x7c00 << 13;  // inf, nan
  const vu bits = (bits_of(scaled) & ~(vu)is_special) | ((magnitude | 0x7f800000u) & (vu)is_special);
  return from_bits(bits | (wide & 0x8000u) << 16);
#endif
}
MAMBASDK_SIMD vh narrow_f16(vf x) {
#if defined(__AVX512F__)
  return (vh)_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__F16C__)
  return (vh)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__aarch64__)
  return (vh)vcvt_f16_f32((float32x4_t)x);
#else
  // As from_float<f16>, on vectors.
  const vu sign = (bits_of(x) >> 16) & 0x8000u;
  const vi magnitude = (vi)(bits_of(x) & 0x7fffffffu);
  const vi subnormal = (vi)((vf)magnitude + 0.5f) - 0x3f000000;
  const vi normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const vi is_subnormal = magnitude < 0x38800000, is_large = magnitude >= 0x477ff000, is_nan = magnitude > 0x7f800000;
  const vi finite = (subnormal & is_subnormal) | (normal & ~is_subnormal);
  const vi half = (finite & ~is_large) | (((0x7c00 & ~is_nan) | (0x7e00 & is_nan)) & is_large);
  return __builtin_convertvector((vu)half | sign, vh);
#endif
}
MAMBASDK_SIMD vh load_half(const void* p) {
  return (vh) * static_cast<const vh_unaligned*>(p);
}
MAMBASDK_SIMD vf load(const bf16* p) {
  return widen_bf16(load_half(p));
}
MAMBASDK_SIMD vf load(const f16* p) {
  return widen_f16(load_half(p));
}
MAMBASDK_SIMD void store(bf16* p, vf x) {
  *reinterpret_cast<vh_unaligned*>(p) = (vh_unaligned)narrow_bf16(x);
}
MAMBASDK_SIMD void store(f16* p, vf x) {
  *reinterpret_cast<vh_unaligned*>(p) = (vh_unaligned)narrow_f16(x);
}

// Two vectors, one behind the other: bfloat16 takes one conversion and one store.
template <class T>
MAMBASDK_SIMD void store_pair(T* p, vf first, vf second) {
  store(p, first);
  store(p + kLanes, second);
}
#if defined(__AVX512BF16__)
// Two vectors as bfloat16, one behind the other. Subnormals become zero.
MAMBASDK_SIMD __m512i narrow_pair(vf first, vf second) {
#if defined(MAMBASDK_AMX)  // Bochs, where this variant is tested, gets the upper half of vcvtne2ps2bf16 wrong
  const __m256i low = (__m256i)_mm512_cvtneps_pbh((__m512)first), high = (__m256i)_mm512_cvtneps_pbh((__m512)second);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
#else
  return (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
#endif
}
MAMBASDK_SIMD void store_pair(bf16* p, vf first, vf second) {
  const int subnormal = _mm512_fpclass_ps_mask((__m512)first, 0x20) | _mm512_fpclass_ps_mask((__m512)second, 0x20);
  if (__builtin_expect(subnormal == 0, 1)) return _mm512_storeu_si512(p, narrow_pair(first, second));
  store(p, first);
  store(p + kLanes, second);
}
#endif

template <class T>
MAMBASDK_SIMD vf load_n(const T* p, int n) {
  if (n >= kLanes) return load(p);
#if defined(__AVX512F__)
  const auto first = static_cast<__mmask16>((1u << n) - 1u);
  if constexpr (sizeof(T) == 4) return (vf)_mm512_maskz_loadu_ps(first, p);
  if constexpr (std::is_same_v<T, bf16>) return widen_bf16((vh)_mm256_maskz_loadu_epi16(first, p));
  if constexpr (std::is_same_v<T, f16>) return widen_f16((vh)_mm256_maskz_loadu_epi16(first, p));
#endif
  alignas(64) T buffer[kLanes] = {};
  for (int i = 0; i < n; ++i) buffer[i] = p[i];
  return load(static_cast<const T*>(buffer));
}
template <class T>
MAMBASDK_SIMD void store_n(T* p, vf x, int n) {
  if (n >= kLanes) return store(p, x);
#if defined(__AVX512F__)
  const auto first = static_cast<__mmask16>((1u << n) - 1u);
  if constexpr (sizeof(T) == 4) return _mm512_mask_storeu_ps(p, first, (__m512)x);
  if constexpr (std::is_same_v<T, bf16>) return _mm256_mask_storeu_epi16(p, first, (__m256i)narrow_bf16(x));
  if constexpr (std::is_same_v<T, f16>) return _mm256_mask_storeu_epi16(p, first, (__m256i)narrow_f16(x));
#endif
  alignas(64) T buffer[kLanes];
  store(static_cast<T*>(buffer), x);
  for (int i = 0; i < n; ++i) p[i] = buffer[i];
}

// Asks for the lines of V vectors that will be used soon, for the first or the second level of the cache.
template <int V, int kLevel = 1, class T>
MAMBASDK_SIMD void prefetch_vectors(const T* p) {
  constexpr int kBytes = V * kLanes * static_cast<int>(sizeof(T));
  for (int i = 0; i < kBytes; i += 64) __builtin_prefetch(reinterpret_cast<const char*>(p) + i, 0, 4 - kLevel);
}

// Keeps a loaded value in its register: the compiler would rather load it again for every use.
MAMBASDK_SIMD vf in_register(vf x) {
#if defined(__AVX512F__)
  asm("" : "+v"(x));
#elif defined(__x86_64__)
  asm("" : "+x"(x));
#endif
  return x;
}

// ---- reductions ----

MAMBASDK_SIMD float reduce_add(vf x) {  // fixed tree: the same bits every time
#if defined(__AVX512F__)
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
#elif defined(__AVX2__)
  const __m256 half = (__m256)x;
#endif
#if defined(__AVX2__)
  __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps(quarter, quarter, 1)));
#else
  return (x[0] + x[2]) + (x[1] + x[3]);
#endif
}

// ---- elementary functions ----

// 2^z. Relative error below 2e-7 (measured in simd_test); 0 below -150, infinity above 128; NaN stays NaN.
MAMBASDK_SIMD vf exp2(vf z) {
#if defined(__AVX512F__)
  // f = z - floor(z) in [0, 1); vscalefps multiplies by 2^floor(z) with correct over- and underflow.
  const vf f = (vf)_mm512_reduce_ps((__m512)z, 0x01);
#else
  z = min(set1(129.0f), max(set1(-150.0f), z));  // in this order NaN passes through
  const vf nearest = (z + set1(0x1.8p23f)) - set1(0x1.8p23f);
  const vf floor_z = nearest - select(nearest > z, set1(1.0f), zero());
  const vf f = z - floor_z;
#endif
  // Minimax polynomial of 2^f on [0, 1) in relative error, degree 5.
  vf p = f * 1.8775767e-3f + 8.9893397e-3f;
  p = p * f + 5.5826318e-2f;
  p = p * f + 2.4015361e-1f;
  p = p * f + 6.9315308e-1f;
  p = p * f + 9.9999994e-1f;
#if defined(__AVX512F__)
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)z);
#else
  // In two steps, so that subnormal results and 2^128 come out right.
  const vi e = __builtin_convertvector(floor_z, vi);
  const vi e1 = e >> 1;
  const vi e2 = e - e1;
  return p * (vf)((e1 + 127) << 23) * (vf)((e2 + 127) << 23);
#endif
}

// e^x, relative error below 2e-7 over the whole range: the reduction keeps the low part of x/ln2.
MAMBASDK_SIMD vf exp(vf x) {
  const vf log2e = set1(1.44269504088896341f);
  const vf limited = min(set1(89.0f), max(set1(-104.0f), x));  // in this order NaN passes through
  const vf n = (limited * log2e + set1(0x1.8p23f)) - set1(0x1.8p23f);
  const vf r = (limited - n * 0.693359375f) - n * -2.12194440e-4f;  // |r| <= ln2/2; exact first product
  vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
#if defined(__AVX512F__)
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  const vi e = __builtin_convertvector(n, vi);
  const vi e1 = e >> 1;
  const vi e2 = e - e1;
  return p * (vf)((e1 + 127) << 23) * (vf)((e2 + 127) << 23);
#endif
}

// ln(x) for finite x > 0, relative error below 3e-7.
MAMBASDK_SIMD vf log(vf x) {
  // x = 2^e * m, m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh((m-1)/(m+1)).
  const vi shifted = (vi)x - 0x3f3504f3;
  const vi e = shifted >> 23;
  const vf m = (vf)((shifted & 0x007fffff) + 0x3f3504f3);
  const vf s = (m - 1.0f) / (m + 1.0f);
  const vf s2 = s * s;
  vf p = s2 * 0.2392f + 0.28498786688f;
  p = p * s2 + 0.40000972152f;
  p = p * s2 + 0.66666662693f;
  const vf ef = __builtin_convertvector(e, vf);
  return ef * 0.693359375f + (s * 2.0f + (s * s2 * p + ef * -2.12194440e-4f));
}

// ln(1+y) for y >= 0, relative error below 4e-7: the rounding of 1+y is put back.
MAMBASDK_SIMD vf log1p(vf y) {
  const vf u = 1.0f + y;
  const vf d = u - 1.0f;
  return select(d == zero(), y, log(u) * (y / select(d == zero(), set1(1.0f), d)));
}

// Relative error below 3e-7 + 1e-7 |x|: one ulp of x in the exponent is the price of the short reduction.
MAMBASDK_SIMD vf sigmoid(vf x) {
  return 1.0f / (1.0f + exp2(x * -1.44269504088896341f));
}
MAMBASDK_SIMD vf silu(vf x) {
  return x / (1.0f + exp2(x * -1.44269504088896341f));
}

// ln(1+y) for 0 <= y <= 1, relative error below 2e-7: 2 atanh(y/(2+y)).
MAMBASDK_SIMD vf log1p_unit(vf y) {
  const vf s = (y + y) / (y + 2.0f);  // doubled, so that subnormal y stay themselves
  const vf t = s * s;                 // at most 4/9
  vf p = t * 5.50286275e-4f + 2.18448584e-3f;
  p = p * t + 1.25077668e-2f;
  p = p * t + 8.33328949e-2f;
  p = p * t + 1.0f;
  return s * p;
}

// ln(1+e^x); the identity above 20 (what it would add there is below half a unit in the last place).
MAMBASDK_SIMD vf softplus(vf x) {
  const vf e = exp(from_bits(bits_of(x) | 0x80000000u));  // e^-|x|
  return max(zero(), x) + log1p_unit(e);
}

}  // namespace mambasdk::MAMBASDK_ISA
