// sort: by the digits of keys where a row is long, by comparisons of them where it is short.
#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/indexing/indexing.hpp"
#include "ops/indexing/order.hpp"

namespace mambasdk::indexing {
namespace {

constexpr Declaration kSort = "sort(x: T[*,L], descending: bool = false) -> (values: T[*,L], indices: i32[*,L])";
constexpr std::int64_t kShort = 256;    // up to here comparisons are faster
constexpr std::int64_t kMostRows = 16;  // that have scratch at the same time

void check(const CallOf<kSort>& c) {
  if (c.dim<"L">() <= INT32_MAX) return;
  fail(ErrorCode::invalid_argument, c.operation(), ": x has ", c.dim<"L">(), " elements in a row, expected at most ",
       INT32_MAX);
}

// By the upper 32 bits, in three rounds of 11, 11 and 10; stable, so the lower ones need none.
void sort_by_digits(std::uint64_t* keys, std::uint64_t* other, std::int64_t n) {
  constexpr int kBits = 11, kRounds = 3;
  constexpr std::uint64_t kMask = (1u << kBits) - 1;
  std::array<std::array<std::uint32_t, 1u << kBits>, kRounds> counts{};
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::size_t r = 0; r < kRounds; ++r) ++counts[r][keys[i] >> (32 + r * kBits) & kMask];
  }
  for (std::size_t r = 0; r < kRounds; ++r) {
    std::uint32_t before = 0;
    for (std::uint32_t& count : counts[r]) before += std::exchange(count, before);
    for (std::int64_t i = 0; i < n; ++i) other[counts[r][keys[i] >> (32 + r * kBits) & kMask]++] = keys[i];
    std::swap(keys, other);
  }
  std::copy(keys, keys + n, other);  // three rounds end in the other array
}

template <class T>
void sort_rows(const CallOf<kSort>& c) {
  const Tensor &x = c.tensor<"x">(), &values = c.output<"values">();
  auto* indices = c.output<"indices">().ptr<std::int32_t>();
  const std::int64_t n = c.dim<"L">(), rows = row_count(x), stride = x.stride(-1);
  const bool descending = c.flag<"descending">();
  // Workers take every kMostRows-th row, each with keys of its own.
  const std::int64_t workers = std::min(rows, kMostRows);
  const Context::Workspace memory = c.context().workspace((Extent(workers) * n * 2 * sizeof(std::uint64_t)).bytes());
  auto* scratch = reinterpret_cast<std::uint64_t*>(memory.get());
  const std::int64_t per_worker = (rows - 1) / workers + 1;
  c.context().parallel()(workers, std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, n * per_worker)),
                         [&](std::int64_t begin, std::int64_t end) {
                           for (std::int64_t w = begin; w < end; ++w) {
                             std::uint64_t* keys = scratch + w * 2 * n;
                             for (std::int64_t r = w; r < rows; r += workers) {
                               const T* row = x.ptr<const T>() + row_offset(x, r);
                               keys_of(row, stride, n, descending, keys);
                               if (n <= kShort) {
                                 std::sort(keys, keys + n);
                               } else {
                                 sort_by_digits(keys, keys + n, n);
                               }
                               for (std::int64_t i = 0; i < n; ++i) {
                                 const auto at = static_cast<std::int32_t>(keys[i] & 0xffffffffu);
                                 indices[r * n + i] = at;
                                 values.ptr<T>()[r * n + i] = row[at * stride];
                               }
                             }
                           }
                         });
}

void vector(const CallOf<kSort>& c) {
  with_float_type(c.tensor<"x">().dtype, [&]<class T>(T) { sort_rows<T>(c); });
}

void reference(const CallOf<kSort>& c) {
  const Tensor &x = c.tensor<"x">(), &values = c.output<"values">();
  auto* indices = c.output<"indices">().ptr<std::int32_t>();
  const std::int64_t n = c.dim<"L">(), rows = row_count(x);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t row = row_offset(x, r);
    const auto element = [&](std::int64_t i) { return load_element(x.data, x.dtype, row + i * x.stride(-1)); };
    std::int32_t* order = indices + r * n;
    std::iota(order, order + n, 0);
    std::stable_sort(order, order + n, [&](std::int32_t a, std::int32_t b) {
      return is_before(element(a), element(b), c.flag<"descending">());
    });
    for (std::int64_t i = 0; i < n; ++i) store_element(values.data, values.dtype, r * n + i, element(order[i]));
  }
}

}  // namespace

void register_sort(Registry& registry) {
  registry.define<kSort>({
      .doc = "The elements of each row in ascending (descending) order, and where they were. Equals keep their order; "
             "NaN is above all numbers. For inference: it has no derivative.",
      .check = check,
      .reference = reference,
      .cpu = vector,
  });
}

}  // namespace mambasdk::indexing
