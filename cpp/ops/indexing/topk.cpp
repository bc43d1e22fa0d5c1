// topk: the best keys seen so far, cut down whenever there are twice as many as asked for.
#include <algorithm>
#include <numeric>
#include <vector>

#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/indexing/indexing.hpp"
#include "ops/indexing/order.hpp"

namespace mambasdk::indexing {
namespace {

constexpr Declaration kTopk = "topk(x: T[*,L], k: int, largest: bool = true) -> (values: T[*,k], indices: i32[*,k])";
constexpr std::int64_t kMostRows = 16;  // that have scratch at the same time

void check(const CallOf<kTopk>& c) {
  const std::int64_t length = c.dim<"L">(), k = c.integer<"k">();
  if (length > INT32_MAX) {
    fail(ErrorCode::invalid_argument, c.operation(), ": x has ", length, " elements in a row, expected at most ",
         INT32_MAX);
  }
  if (k >= 0 && k <= length) return;
  fail(ErrorCode::invalid_argument, c.operation(), ": k is ", k, ", expected 0 to ", length,
       ", the elements in a row of x");
}

// The k smallest keys of the row, in order, in keys[0 … k), which has room for 2 k.
template <class T>
void select(const T* row, std::int64_t stride, std::int64_t n, std::int64_t k, bool largest, std::uint64_t* keys) {
  const std::uint32_t flip = largest ? 0xffffffffu : 0u;
  std::uint64_t worst = UINT64_MAX;
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint64_t key =
        std::uint64_t{rank_of(to_float(row[i * stride])) ^ flip} << 32 | static_cast<std::uint64_t>(i);
    if (key >= worst) continue;
    keys[count++] = key;
    if (count < 2 * k) continue;
    std::nth_element(keys, keys + k - 1, keys + count);
    worst = keys[k - 1];
    count = k;
  }
  std::sort(keys, keys + count);
}

template <class T>
void topk_rows(const CallOf<kTopk>& c) {
  const Tensor &x = c.tensor<"x">(), &values = c.output<"values">();
  auto* indices = c.output<"indices">().ptr<std::int32_t>();
  const std::int64_t n = c.dim<"L">(), k = c.integer<"k">(), rows = row_count(x), stride = x.stride(-1);
  const std::int64_t workers = std::min(rows, kMostRows);
  const Context::Workspace memory = c.context().workspace((Extent(workers) * k * 2 * sizeof(std::uint64_t)).bytes());
  auto* scratch = reinterpret_cast<std::uint64_t*>(memory.get());
  const std::int64_t per_worker = (rows - 1) / workers + 1;
  c.context().parallel()(workers, std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(1, n * per_worker)),
                         [&](std::int64_t begin, std::int64_t end) {
                           for (std::int64_t w = begin; w < end; ++w) {
                             std::uint64_t* keys = scratch + w * 2 * k;
                             for (std::int64_t r = w; r < rows; r += workers) {
                               const T* row = x.ptr<const T>() + row_offset(x, r);
                               select(row, stride, n, k, c.flag<"largest">(), keys);
                               for (std::int64_t i = 0; i < k; ++i) {
                                 const auto at = static_cast<std::int32_t>(keys[i] & 0xffffffffu);
                                 indices[r * k + i] = at;
                                 values.ptr<T>()[r * k + i] = row[at * stride];
                               }
                             }
                           }
                         });
}

void vector(const CallOf<kTopk>& c) {
  with_float_type(c.tensor<"x">().dtype, [&]<class T>(T) { topk_rows<T>(c); });
}

void reference(const CallOf<kTopk>& c) {
  const Tensor &x = c.tensor<"x">(), &values = c.output<"values">();
  auto* indices = c.output<"indices">().ptr<std::int32_t>();
  const std::int64_t n = c.dim<"L">(), k = c.integer<"k">(), rows = row_count(x);
  std::vector<std::int32_t> order(static_cast<std::size_t>(n));
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t row = row_offset(x, r);
    const auto element = [&](std::int64_t i) { return load_element(x.data, x.dtype, row + i * x.stride(-1)); };
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      return is_before(element(a), element(b), c.flag<"largest">());
    });
    for (std::int64_t i = 0; i < k; ++i) {
      indices[r * k + i] = order[static_cast<std::size_t>(i)];
      store_element(values.data, values.dtype, r * k + i, element(order[static_cast<std::size_t>(i)]));
    }
  }
}

}  // namespace

void register_topk(Registry& registry) {
  registry.define<kTopk>({
      .doc =
          "The k largest (smallest) elements of each row, the first of them first, and where they are; of equals the "
          "first. NaN is above all numbers. For inference: it has no derivative.",
      .check = check,
      .reference = reference,
      .cpu = vector,
  });
}

}  // namespace mambasdk::indexing
