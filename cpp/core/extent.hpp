// Counts of elements and bytes whose sums and products are checked: sizes that come from outside go through this type,
// and a value past 2^63 is an Error(invalid_argument) instead of a small number.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/error.hpp"

namespace mambasdk {

class Extent {
 public:
  constexpr Extent() = default;
  template <std::integral T>
  constexpr Extent(T value) : value_(static_cast<std::int64_t>(value)) {  // NOLINT: a count is a count
    if constexpr (sizeof(T) == sizeof(std::int64_t) && !std::is_signed_v<T>) {
      if (value > static_cast<T>(INT64_MAX)) overflow(value, "as a signed count", 0);
    }
  }

  [[nodiscard]] constexpr std::int64_t value() const { return value_; }
  // For allocation. Throws Error(invalid_argument) for a negative count.
  [[nodiscard]] constexpr std::size_t bytes() const {
    if (value_ < 0) fail(ErrorCode::invalid_argument, "a size of ", value_, " bytes");
    return static_cast<std::size_t>(value_);
  }

  friend constexpr Extent operator+(Extent a, Extent b) {
    Extent out;
    if (__builtin_add_overflow(a.value_, b.value_, &out.value_)) overflow(a.value_, "+", b.value_);
    return out;
  }
  friend constexpr Extent operator-(Extent a, Extent b) {
    Extent out;
    if (__builtin_sub_overflow(a.value_, b.value_, &out.value_)) overflow(a.value_, "-", b.value_);
    return out;
  }
  friend constexpr Extent operator*(Extent a, Extent b) {
    Extent out;
    if (__builtin_mul_overflow(a.value_, b.value_, &out.value_)) overflow(a.value_, "*", b.value_);
    return out;
  }
  constexpr Extent& operator+=(Extent b) { return *this = *this + b; }
  constexpr Extent& operator-=(Extent b) { return *this = *this - b; }
  constexpr Extent& operator*=(Extent b) { return *this = *this * b; }

  // The smallest multiple of step (positive) that is not below this.
  [[nodiscard]] constexpr Extent rounded_up(std::int64_t step) const {
    return *this + Extent((step - value_ % step) % step);
  }

  friend constexpr bool operator==(Extent, Extent) = default;
  friend constexpr auto operator<=>(Extent, Extent) = default;

 private:
  template <class A, class B>
  [[noreturn]] static void overflow(A a, const char* operation, B b) {
    fail(ErrorCode::invalid_argument, "a size of ", a, " ", operation, " ", b, " does not fit 63 bits");
  }

  std::int64_t value_ = 0;
};

}  // namespace mambasdk
