// Random numbers by counter: each stream is named by its place, so neither the order nor the number of threads matters.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace mambasdk::graph {

inline constexpr std::uint64_t kGoldenRatio = 0x9e3779b97f4a7c15ULL;  // 2^64 over the golden ratio

// The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014): a bijection that mixes every bit into every other.
constexpr std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

// What a stream is for: streams of different uses never meet.
enum class Use : std::uint64_t { walk = 1, noise = 2, bucket = 3 };

class Stream {
 public:
  Stream(std::uint64_t seed, std::uint64_t epoch, Use use, std::initializer_list<std::uint64_t> place)
      : key_(mix(seed + kGoldenRatio)) {
    add(epoch);
    add(static_cast<std::uint64_t>(use));
    for (const std::uint64_t p : place) add(p);
  }
  // A whole number below n, 0 < n < 2^32; the bias is below n / 2^32.
  std::uint64_t below(std::uint64_t n) { return ((next() >> 32) * n) >> 32; }
  // From 0 to 1, 24 bits.
  float uniform() { return static_cast<float>(next() >> 40) * 0x1p-24F; }

 private:
  std::uint64_t next() { return mix(key_ + ++count_ * kGoldenRatio); }
  void add(std::uint64_t value) { key_ = mix(key_ ^ mix(value + kGoldenRatio)); }
  std::uint64_t key_;
  std::uint64_t count_ = 0;
};

}  // namespace mambasdk::graph
