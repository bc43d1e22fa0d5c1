// cuda/device.hpp for the host's compiler: every name is a call of the block that runs (emulation/block.hpp).
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

// NOLINTBEGIN: the macros of cuda/device.hpp
#define MAMBASDK_KERNEL(threads, blocks) void
#define MAMBASDK_DEVICE inline
#define MAMBASDK_UNROLL
#define MAMBASDK_ROLLED
// NOLINTEND

#include "emulation/block.hpp"

namespace mambasdk::cuda {

using emulation::Block;
using emulation::Use;
using emulation::Where;

enum class Space { global, shared };

// A pointer that knows whose memory it points into, so that what lies beside that is out of bounds.
template <class T, Space space>
class Pointer {
 public:
  Pointer() = default;
  Pointer(std::nullptr_t) {}  // NOLINT: as a pointer does
  explicit Pointer(T* at)
    requires(space == Space::global)
      : at_(at), region_(at == nullptr ? nullptr : Block::current().find_global(at)) {}
  Pointer(T* at, emulation::Region* region) : at_(at), region_(region) {}
  operator Pointer<const T, space>() const  // NOLINT: as a pointer does
    requires(!std::is_const_v<T>)
  {
    return {at_, region_};
  }

  friend Pointer operator+(Pointer p, std::int64_t n) { return {p.at_ + n, p.region_}; }
  friend Pointer operator-(Pointer p, std::int64_t n) { return {p.at_ - n, p.region_}; }
  Pointer& operator+=(std::int64_t n) { return *this = *this + n; }
  friend bool operator==(Pointer p, std::nullptr_t) { return p.at_ == nullptr; }

  [[nodiscard]] T* address() const { return at_; }
  [[nodiscard]] emulation::Region& region(const Where& where) const {
    if (region_ == nullptr) {
      throw emulation::Fault(emulation::Kind::bounds, emulation::text(where) + ": " + Block::current().thread().name() +
                                                          " accesses memory that is not the device's");
    }
    return *region_;
  }
  [[nodiscard]] emulation::Region* home() const { return region_; }
  // Checks and notes an access to `bytes` from here on.
  void touch(std::size_t bytes, Use use, const Where& where) const {
    Block& block = Block::current();
    const auto* at = reinterpret_cast<const std::byte*>(at_);
    region(where).touch(block.thread(), at, bytes, use, where);
    if (space == Space::shared) block.count(region(where).offset(at), bytes, where);
  }

 private:
  T* at_ = nullptr;
  emulation::Region* region_ = nullptr;
};
template <class T>
using Global = Pointer<T, Space::global>;
template <class T>
using Shared = Pointer<T, Space::shared>;

template <class U, class T, Space space>
Pointer<U, space> as(Pointer<T, space> p) {
  return {reinterpret_cast<U*>(p.address()), p.home()};
}

template <class T>
Shared<T> shared_memory(unsigned offset) {
  Block& block = Block::current();
  return {reinterpret_cast<T*>(block.shared() + offset), &block.shared_region()};
}

template <class T, Space space>
std::remove_const_t<T> load(Pointer<T, space> p, Where where = Where::current()) {
  p.touch(sizeof(T), Use::read, where);
  return *p.address();
}
template <class T, Space space>
void store(Pointer<T, space> p, std::type_identity_t<T> x, Where where = Where::current()) {
  p.touch(sizeof(T), Use::write, where);
  *p.address() = x;
}
template <int n, class T, Space space>
Vector<std::remove_const_t<T>, n> load_vector(Pointer<T, space> p, Where where = Where::current()) {
  static_assert(sizeof(T) * n <= 16);
  p.touch(sizeof(T) * n, Use::read, where);
  Vector<std::remove_const_t<T>, n> v;
  std::memcpy(v.value, p.address(), sizeof(v.value));
  return v;
}
template <int n, class T, Space space>
void store_vector(Pointer<T, space> p, const Vector<T, n>& v, Where where = Where::current()) {
  static_assert(sizeof(T) * n <= 16);
  p.touch(sizeof(T) * n, Use::write, where);
  std::memcpy(p.address(), v.value, sizeof(v.value));
}
inline void add(Global<float> p, float x, Where where = Where::current()) {
  p.touch(sizeof(float), Use::add, where);
  const auto flushed = [](float value) { return std::abs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value; };
  *p.address() = flushed(flushed(*p.address()) + flushed(x));
}

inline Dim thread_index() {
  return Block::current().thread_place();
}
inline Dim block_index() {
  return Block::current().place;
}
inline Dim block_size() {
  return Block::current().size;
}
inline Dim grid_size() {
  return Block::current().grid;
}

inline void barrier(Where where = Where::current()) {
  Block::current().barrier(where);
}
inline void warp_barrier(std::uint32_t mask, Where where = Where::current()) {
  Block::current().meet("warp barrier", mask, where, nullptr, true, [](const emulation::Lanes&) {});
}

struct Exchange {
  std::uint32_t given, from, taken;
};
inline std::uint32_t exchange(const char* what, std::uint32_t mask, std::uint32_t given, unsigned from,
                              const Where& where) {
  Exchange mine{given, from, 0};
  Block::current().meet(what, mask, where, &mine, false, [&](const emulation::Lanes& lanes) {
    for (void* lane : lanes) {
      if (lane == nullptr) continue;
      auto& taker = *static_cast<Exchange*>(lane);
      const void* giver = taker.from < kWarp ? lanes[taker.from] : nullptr;
      if (giver == nullptr) {
        throw emulation::Fault(emulation::Kind::divergence,
                               emulation::text(where) + ": the " + what + " in warp " +
                                   std::to_string(Block::current().thread().index / kWarp) + " takes from lane " +
                                   std::to_string(taker.from) + ", which its mask does not name");
      }
      taker.taken = static_cast<const Exchange*>(giver)->given;
    }
  });
  return mine.taken;
}
template <class T>
T shuffle(std::uint32_t mask, T x, unsigned lane, Where where = Where::current()) {
  return detail::bit_cast<T>(exchange("shuffle", mask, detail::bit_cast<std::uint32_t>(x), lane, where));
}
template <class T>
T shuffle_xor(std::uint32_t mask, T x, unsigned lanes, Where where = Where::current()) {
  const unsigned from = Block::current().lane() ^ lanes;
  return detail::bit_cast<T>(exchange("shuffle", mask, detail::bit_cast<std::uint32_t>(x), from, where));
}
inline std::uint32_t ballot(std::uint32_t mask, bool flag, Where where = Where::current()) {
  Exchange mine{flag ? 1u : 0u, 0, 0};
  Block::current().meet("ballot", mask, where, &mine, false, [](const emulation::Lanes& lanes) {
    std::uint32_t votes = 0;
    for (unsigned i = 0; i < kWarp; ++i) {
      if (lanes[i] != nullptr) votes |= static_cast<Exchange*>(lanes[i])->given << i;
    }
    for (void* lane : lanes) {
      if (lane != nullptr) static_cast<Exchange*>(lane)->taken = votes;
    }
  });
  return mine.taken;
}

template <int bytes, class T, class F>
void copy_async(Shared<T> to, Global<F> from, Where where = Where::current()) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16);
  Block::current().copy(to.region(where), reinterpret_cast<std::byte*>(to.address()), from.region(where),
                        reinterpret_cast<const std::byte*>(from.address()), bytes, where);
}
inline void copy_commit() {
  Block::current().commit();
}
template <int n>
void copy_wait(Where where = Where::current()) {
  Block::current().wait(n, where);
}

namespace matrices {

struct Row {
  const std::byte* at;
  std::uint32_t bits[4];
};
// Lane 8 m + r names row r of matrix m; addresses of the lanes above 8 n are not looked at.
template <int n, bool transposed, class T>
Matrices<n> read(Shared<T> row, const Where& where) {
  static_assert(n == 1 || n == 2 || n == 4);
  Block& block = Block::current();
  emulation::Region& region = row.region(where);
  Row mine{reinterpret_cast<const std::byte*>(row.address()), {}};
  if (block.lane() < 8 * n) region.touch(block.thread(), mine.at, 16, Use::read, where);
  block.meet(transposed ? "transposed matrix load" : "matrix load", kWholeWarp, where, &mine, false,
             [&](const emulation::Lanes& lanes) {
               for (unsigned m = 0; m < n; ++m) {
                 std::uint16_t half[8][8];
                 std::array<std::ptrdiff_t, 8> rows;
                 for (unsigned r = 0; r < 8; ++r) {
                   const std::byte* at = static_cast<Row*>(lanes[8 * m + r])->at;
                   std::memcpy(half[r], at, 16);
                   rows[r] = region.offset(at);
                 }
                 block.count_rows(rows);
                 for (unsigned i = 0; i < kWarp; ++i) {
                   const unsigned r = i / 4, c = i % 4 * 2;
                   const std::uint32_t low = transposed ? half[c][r] : half[r][c];
                   const std::uint32_t high = transposed ? half[c + 1][r] : half[r][c + 1];
                   static_cast<Row*>(lanes[i])->bits[m] = low | high << 16;
                 }
               }
             });
  Matrices<n> result;
  std::copy_n(mine.bits, n, result.bits);
  return result;
}

template <class T>
float half_of(std::uint32_t bits, unsigned which) {
  return mambasdk::to_float(T{static_cast<std::uint16_t>(bits >> (16 * which))});
}

}  // namespace matrices

template <int n, class T>
Matrices<n> load_matrix(Shared<T> row, Where where = Where::current()) {
  return matrices::read<n, false>(row, where);
}
template <int n, class T>
Matrices<n> load_matrix_transposed(Shared<T> row, Where where = Where::current()) {
  return matrices::read<n, true>(row, where);
}

// The sum of an element is made in double and rounded once; the hardware truncates on the way.
template <class T>
FragmentC multiply_add(const FragmentA<T>& a, const FragmentB<T>& b, const FragmentC& c,
                       Where where = Where::current()) {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>);
  struct Operands {
    FragmentA<T> a;
    FragmentB<T> b;
    FragmentC c;
  } mine{a, b, c};
  Block::current().meet("matrix product", kWholeWarp, where, &mine, false, [](const emulation::Lanes& lanes) {
    float left[16][16], right[16][8];
    for (unsigned i = 0; i < kWarp; ++i) {
      const auto& lane = *static_cast<Operands*>(lanes[i]);
      for (unsigned part = 0; part < 4; ++part) {
        for (unsigned h = 0; h < 2; ++h) {
          left[i / 4 + part % 2 * 8][i % 4 * 2 + h + part / 2 * 8] = matrices::half_of<T>(lane.a.bits[part], h);
          if (part < 2) right[i % 4 * 2 + h + part * 8][i / 4] = matrices::half_of<T>(lane.b.bits[part], h);
        }
      }
    }
    for (unsigned i = 0; i < kWarp; ++i) {
      auto& lane = *static_cast<Operands*>(lanes[i]);
      for (unsigned e = 0; e < 4; ++e) {
        const unsigned r = i / 4 + e / 2 * 8, column = i % 4 * 2 + e % 2;
        double sum = lane.c.value[e];
        for (unsigned k = 0; k < 16; ++k) sum += static_cast<double>(left[r][k]) * right[k][column];
        lane.c.value[e] = static_cast<float>(sum);
      }
    }
  });
  return mine.c;
}

inline float exp2_approx(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}
inline float reciprocal_approx(float x) {
  return 1.0f / x;
}

template <class T>
float widen(T x) {
  return mambasdk::to_float(x);
}
template <class T>
T narrow(float x) {
  return mambasdk::from_float<T>::cast(x);
}

}  // namespace mambasdk::cuda
