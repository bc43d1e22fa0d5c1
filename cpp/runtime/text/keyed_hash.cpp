// Drawing the key.
#include "runtime/text/keyed_hash.hpp"

#include <chrono>
#include <exception>
#include <random>

namespace mambasdk::runtime {

const HashKey& hash_key() {
  static const HashKey key = [] {
    HashKey drawn{};
    try {
      std::random_device random;
      drawn.first = std::uint64_t{random()} << 32 | random();
      drawn.second = std::uint64_t{random()} << 32 | random();
    } catch (const std::exception&) {  // a system without a source of randomness
      const auto now = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
      drawn = {now * 0x9E3779B97F4A7C15u, reinterpret_cast<std::uintptr_t>(&drawn) * 0xBF58476D1CE4E5B9u};
    }
    drawn.second |= 1;
    return drawn;
  }();
  return key;
}

}  // namespace mambasdk::runtime
