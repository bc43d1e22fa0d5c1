// Between indices, which are int32, masks, and the floating-point numbers that models compute with.
#include <cmath>
#include <cstdint>

#include "core/element.hpp"
#include "core/registry.hpp"
#include "ops/layout/layout.hpp"
#include "ops/rows.hpp"

namespace mambasdk::layout {
namespace {

constexpr Declaration kToIndices = "to_indices(x: T[*]) -> (y: i32[*])";
constexpr Declaration kFromIndices = "from_indices(x: i32[*]) -> (y: f32[*])";
constexpr Declaration kNarrow = "narrow_indices(x: i64[*]) -> (y: i32[*])";
constexpr Declaration kFromMask = "from_mask(x: bool[*]) -> (y: f32[*])";
constexpr Declaration kArange = "arange(like: T[*,L], start: float = 0, step: float = 1) -> (y: f32[L])";

// f(place among all elements, offset in x) for every element, in order.
template <class F>
void for_elements(const Tensor& x, F&& f) {
  const std::int64_t count = x.numel();
  if (count == 0) return;
  const std::int64_t columns = x.ndim > 0 ? x.size(-1) : 1, step = x.ndim > 0 ? x.stride(-1) : 0;
  for (std::int64_t r = 0; r < count / columns; ++r) {
    const std::int64_t row = row_offset(x, r);
    for (std::int64_t i = 0; i < columns; ++i) f(r * columns + i, row + i * step);
  }
}

// Up to here every integer is a float32 of its own.
constexpr std::int64_t kMost = std::int64_t{1} << 24;

template <class T>
[[noreturn]] void refuse(const std::string& operation, std::int64_t element, T value) {
  fail(ErrorCode::invalid_argument, operation, ": element ", element, " of x is ", value, ", expected a number from ",
       -kMost, " to ", kMost, ", where every integer is a float32");
}

bool is_readable(const Tensor& x) {
  return x.data != nullptr && x.device == Device::cpu;
}

void check_to_indices(const CallOf<kToIndices>& c) {
  const Tensor& x = c.tensor<"x">();
  if (!is_readable(x)) return;
  for_elements(x, [&](std::int64_t i, std::int64_t at) {
    const double value = load_element(x.data, x.dtype, at);
    if (!(std::abs(value) <= static_cast<double>(kMost))) refuse(c.operation(), i, value);
  });
}

void check_from_indices(const CallOf<kFromIndices>& c) {
  const Tensor& x = c.tensor<"x">();
  if (!is_readable(x)) return;
  for_elements(x, [&](std::int64_t i, std::int64_t at) {
    const std::int64_t value = x.ptr<const std::int32_t>()[at];
    if (value < -kMost || value > kMost) refuse(c.operation(), i, value);
  });
}

void check_narrow(const CallOf<kNarrow>& c) {
  const Tensor& x = c.tensor<"x">();
  if (!is_readable(x)) return;
  for_elements(x, [&](std::int64_t i, std::int64_t at) {
    const std::int64_t value = x.ptr<const std::int64_t>()[at];
    if (value >= INT32_MIN && value <= INT32_MAX) return;
    fail(ErrorCode::invalid_argument, c.operation(), ": element ", i, " of x is ", value, ", expected ", INT32_MIN,
         " to ", INT32_MAX, ", the range of int32");
  });
}

void run_narrow(const CallOf<kNarrow>& c) {
  const Tensor& x = c.tensor<"x">();
  auto* y = c.output<"y">().ptr<std::int32_t>();
  for_elements(
      x, [&](std::int64_t i, std::int64_t at) { y[i] = static_cast<std::int32_t>(x.ptr<const std::int64_t>()[at]); });
}

void run_to_indices(const CallOf<kToIndices>& c) {
  const Tensor& x = c.tensor<"x">();
  auto* y = c.output<"y">().ptr<std::int32_t>();
  for_elements(
      x, [&](std::int64_t i, std::int64_t at) { y[i] = static_cast<std::int32_t>(load_element(x.data, x.dtype, at)); });
}

void run_from_indices(const CallOf<kFromIndices>& c) {
  const Tensor& x = c.tensor<"x">();
  auto* y = c.output<"y">().ptr<float>();
  for_elements(x, [&](std::int64_t i, std::int64_t at) { y[i] = static_cast<float>(x.ptr<const std::int32_t>()[at]); });
}

void run_from_mask(const CallOf<kFromMask>& c) {
  const Tensor& x = c.tensor<"x">();
  auto* y = c.output<"y">().ptr<float>();
  for_elements(x, [&](std::int64_t i, std::int64_t at) { y[i] = x.ptr<const std::uint8_t>()[at] != 0 ? 1.0f : 0.0f; });
}

void run_arange(const CallOf<kArange>& c) {
  auto* y = c.output<"y">().ptr<float>();
  const double start = c.number<"start">(), step = c.number<"step">();
  for (std::int64_t i = 0; i < c.dim<"L">(); ++i) {
    y[i] = static_cast<float>(start + static_cast<double>(i) * step);
  }
}

}  // namespace

void register_indices(Registry& registry) {
  registry.define<kToIndices>({
      .doc =
          "The integer part of x, rounded towards 0. A number beyond 2^24 in size, or one that is none, is an error.",
      .check = check_to_indices,
      .reference = run_to_indices,
      .cpu = run_to_indices,
  });
  registry.define<kFromIndices>({
      .doc = "x as floating-point numbers. One beyond 2^24 in size, where not every integer is a float32, is an error.",
      .check = check_from_indices,
      .reference = run_from_indices,
      .cpu = run_from_indices,
  });
  registry.define<kNarrow>({
      .doc = "x as int32; a number outside of it is an error.",
      .check = check_narrow,
      .reference = run_narrow,
      .cpu = run_narrow,
  });
  registry.define<kFromMask>({
      .doc = "1 where x is true, else 0.",
      .reference = run_from_mask,
      .cpu = run_from_mask,
  });
  registry.define<kArange>({
      .doc = "y[l] = start + l step, rounded once, as long as the last dim of `like`, whose values do not matter. For "
             "inference: it has no derivative.",
      .reference = run_arange,
      .cpu = run_arange,
  });
}

}  // namespace mambasdk::layout
