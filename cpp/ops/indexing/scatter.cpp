// scatter_add, scatter and scatter_max: what comes later along L is added, or written, later, whatever the threads.
#include "ops/indexing/scatter.hpp"

#include <algorithm>
#include <cstring>

#include "core/element.hpp"
#include "core/extent.hpp"
#include "core/registry.hpp"
#include "kernels/strided_copy.hpp"
#include "ops/indexing/indexing.hpp"
#include "ops/indexing/order.hpp"

namespace mambasdk::indexing {
namespace {

constexpr std::string_view kArguments = "(initial: T[*,M,D], index: i32[*,L,D], x: T[*,L,D]) -> (y: T[*,M,D])";
constexpr Declaration kAdd("scatter_add", kArguments);
constexpr Declaration kSet("scatter", kArguments);
constexpr Declaration kMax =
    "scatter_max(initial: T[*,M,D], index: i32[*,L,D], x: T[*,L,D], include_initial: bool = true) -> (y: T[*,M,D])";
constexpr std::int64_t kFewColumns = 8;     // for which sums of whole rows do not pay
constexpr std::int64_t kColumnBlock = 256;  // columns that one thread goes through

template <const Declaration& kOp>
void check(const CallOf<kOp>& c) {
  check_indices(c.template named<"index">(), c.template dim<"M">(), "initial");
}

// A call's tensors as matrices; without elements where nothing is scattered.
struct Views {
  std::vector<std::int64_t> offsets[3];
  Matrices initial, index, x;

  template <class Call>
  explicit Views(const Call& c) {
    initial = matrices_of(c.template tensor<"initial">(), offsets[0]);
    if (c.template dim<"L">() == 0) return;
    index = matrices_of(c.template tensor<"index">(), offsets[1]);
    x = matrices_of(c.template tensor<"x">(), offsets[2]);
  }
  // f(matrix, first column, columns): what threads may do side by side.
  template <class F>
  void for_blocks(const Parallel& parallel, F&& f) const {
    const std::int64_t blocks = (initial.columns - 1) / kColumnBlock + 1;
    const std::int64_t work = std::max<std::int64_t>(x.rows, 1) * std::min(initial.columns, kColumnBlock);
    parallel(initial.count * blocks, std::max<std::int64_t>(1, 16384 / work),
             [&](std::int64_t begin, std::int64_t end) {
               for (std::int64_t i = begin; i < end; ++i) {
                 const std::int64_t first = i % blocks * kColumnBlock;
                 f(i / blocks, first, std::min(initial.columns - first, kColumnBlock));
               }
             });
  }
};

void reference_add(const CallOf<kAdd>& c) {
  const Views v(c);
  const Tensor& y = c.output<"y">();
  const std::int64_t rows = v.initial.rows, columns = v.initial.columns;
  std::vector<double> sums(static_cast<std::size_t>(rows));
  for (std::int64_t b = 0; b < v.initial.count; ++b) {
    for (std::int64_t d = 0; d < columns; ++d) {
      for (std::int64_t m = 0; m < rows; ++m)
        sums[static_cast<std::size_t>(m)] = load_element(v.initial.matrix.data, y.dtype, v.initial.offset(b, m, d));
      for (std::int64_t l = 0; l < v.x.rows; ++l)
        sums[static_cast<std::size_t>(index_at(v.index, b, l, d))] +=
            load_element(v.x.matrix.data, y.dtype, v.x.offset(b, l, d));
      for (std::int64_t m = 0; m < rows; ++m)
        store_element(y.data, y.dtype, (b * rows + m) * columns + d, sums[static_cast<std::size_t>(m)]);
    }
  }
}

// The rows of x for each row of y: a counting sort of the indices, which keeps the order of equal ones.
void group(const Matrices& index, std::int64_t rows, std::int64_t* first, std::int64_t* order) {
  for (std::int64_t b = 0; b < index.count; ++b, first += rows + 1, order += index.rows) {
    std::fill(first, first + rows + 1, 0);
    for (std::int64_t l = 0; l < index.rows; ++l) ++first[index_at(index, b, l, 0) + 1];
    for (std::int64_t m = 0; m < rows; ++m) first[m + 1] += first[m];
    for (std::int64_t l = 0; l < index.rows; ++l) order[first[index_at(index, b, l, 0)]++] = l;
    for (std::int64_t m = rows; m > 0; --m) first[m] = first[m - 1];  // each has moved to the next one's place
    first[0] = 0;
  }
}

void add_rows(const Views& v, const Tensor& y, const Context& context) {
  const std::int64_t rows = v.initial.rows;
  const auto integers = [&](Extent count) { return context.workspace((count * sizeof(std::int64_t)).bytes()); };
  const Context::Workspace first = integers(Extent(v.initial.count) * (Extent(rows) + 1)),
                           order = integers(Extent(v.initial.count) * v.x.rows);
  auto* firsts = reinterpret_cast<std::int64_t*>(first.get());
  auto* orders = reinterpret_cast<std::int64_t*>(order.get());
  group(v.index, rows, firsts, orders);
  MAMBASDK_PICK(scatter_add_rows)({v.initial, v.x, firsts, orders, y.data}, context.parallel());
}

// Element by element; 16-bit sums are kept in float32 until the end.
template <class T>
void add_elements(const Views& v, const Tensor& y, const Context& context) {
  const std::int64_t rows = v.initial.rows, columns = v.initial.columns;
  Context::Workspace wide(nullptr, {});
  float* sums = nullptr;
  if constexpr (std::is_same_v<T, float>) {
    sums = y.ptr<float>();
  } else {
    wide = context.workspace((Extent(y.numel()) * sizeof(float)).bytes());
    sums = reinterpret_cast<float*>(wide.get());
  }
  const auto *initial = static_cast<const T*>(v.initial.matrix.data), *x = static_cast<const T*>(v.x.matrix.data);
  v.for_blocks(context.parallel(), [&](std::int64_t b, std::int64_t begin, std::int64_t n) {
    float* matrix = sums + b * rows * columns;
    for (std::int64_t m = 0; m < rows; ++m) {
      for (std::int64_t d = begin; d < begin + n; ++d)
        matrix[m * columns + d] = to_float(initial[v.initial.offset(b, m, d)]);
    }
    for (std::int64_t l = 0; l < v.x.rows; ++l) {
      for (std::int64_t d = begin; d < begin + n; ++d)
        matrix[index_at(v.index, b, l, d) * columns + d] += to_float(x[v.x.offset(b, l, d)]);
    }
    if constexpr (!std::is_same_v<T, float>) {
      T* out = y.ptr<T>() + b * rows * columns;
      for (std::int64_t m = 0; m < rows; ++m) {
        for (std::int64_t d = begin; d < begin + n; ++d)
          out[m * columns + d] = from_float<T>::cast(matrix[m * columns + d]);
      }
    }
  });
}

void vector_add(const CallOf<kAdd>& c) {
  const Views v(c);
  const Tensor& y = c.output<"y">();
  if (v.x.rows == 0) return strided_copy(c.tensor<"initial">(), y, c.context().parallel());
  if (is_by_row(v.index) && v.x.columns >= kFewColumns) return add_rows(v, y, c.context());
  with_float_type(y.dtype, [&]<class T>(T) { add_elements<T>(v, y, c.context()); });
}

// A copy, then writes into it: the same for every dtype.
template <bool kReference>
void scatter(const CallOf<kSet>& c) {
  const Views v(c);
  const Tensor& y = c.output<"y">();
  if constexpr (kReference) {
    reference_copy(c.tensor<"initial">(), y);
  } else {
    strided_copy(c.tensor<"initial">(), y, c.context().parallel());
  }
  if (v.x.rows == 0) return;
  const std::int64_t rows = v.initial.rows, columns = v.initial.columns;
  const bool whole = is_by_row(v.index) && v.x.column_stride == 1 && columns > 1;
  with_bits(element_bytes(y.dtype), [&]<class E>(E) {
    const auto* x = static_cast<const E*>(v.x.matrix.data);
    v.for_blocks(c.context().parallel(), [&](std::int64_t b, std::int64_t begin, std::int64_t n) {
      E* matrix = y.ptr<E>() + b * rows * columns;
      for (std::int64_t l = 0; l < v.x.rows; ++l) {
        if (whole) {
          std::memcpy(matrix + index_at(v.index, b, l, 0) * columns + begin, x + v.x.offset(b, l, begin),
                      static_cast<std::size_t>(n) * sizeof(E));
          continue;
        }
        for (std::int64_t d = begin; d < begin + n; ++d)
          matrix[index_at(v.index, b, l, d) * columns + d] = x[v.x.offset(b, l, d)];
      }
    });
  });
}

// Where one of them is NaN, NaN.
template <class T>
void keep_larger(T& kept, T x) {
  if (x > kept || x != x) kept = x;
}

void reference_max(const CallOf<kMax>& c) {
  const Views v(c);
  const Tensor& y = c.output<"y">();
  reference_copy(c.tensor<"initial">(), y);
  const std::int64_t rows = v.initial.rows, columns = v.initial.columns;
  std::vector<bool> counts(static_cast<std::size_t>(rows));
  for (std::int64_t b = 0; b < v.initial.count && v.x.rows != 0; ++b) {
    for (std::int64_t d = 0; d < columns; ++d) {
      counts.assign(static_cast<std::size_t>(rows), c.flag<"include_initial">());
      for (std::int64_t l = 0; l < v.x.rows; ++l) {
        const std::int64_t m = index_at(v.index, b, l, d), place = (b * rows + m) * columns + d;
        const double x = load_element(v.x.matrix.data, y.dtype, v.x.offset(b, l, d));
        double kept = counts[static_cast<std::size_t>(m)] ? load_element(y.data, y.dtype, place) : x;
        keep_larger(kept, x);
        store_element(y.data, y.dtype, place, kept);
        counts[static_cast<std::size_t>(m)] = true;
      }
    }
  }
}

void vector_max(const CallOf<kMax>& c) {
  const Views v(c);
  const Tensor& y = c.output<"y">();
  strided_copy(c.tensor<"initial">(), y, c.context().parallel());
  if (v.x.rows == 0) return;
  const std::int64_t rows = v.initial.rows, columns = v.initial.columns;
  with_float_type(y.dtype, [&]<class T>(T) {
    const auto* x = static_cast<const T*>(v.x.matrix.data);
    v.for_blocks(c.context().parallel(), [&](std::int64_t b, std::int64_t begin, std::int64_t n) {
      T* matrix = y.ptr<T>() + b * rows * columns;
      const auto for_elements = [&](auto&& f) {
        for (std::int64_t l = 0; l < v.x.rows; ++l) {
          for (std::int64_t d = begin; d < begin + n; ++d)
            f(matrix[index_at(v.index, b, l, d) * columns + d], x[v.x.offset(b, l, d)]);
        }
      };
      // Any of them first: the largest of several is not another one for being compared with itself.
      if (!c.flag<"include_initial">()) for_elements([](T& kept, T element) { kept = element; });
      for_elements([](T& kept, T element) {
        float largest = to_float(kept);
        keep_larger(largest, to_float(element));
        kept = from_float<T>::cast(largest);
      });
    });
  });
}

}  // namespace

void register_scatter(Registry& registry) {
  registry.define<kAdd>({
      .doc = "initial, and x[l, d] added to its element [index[l, d], d]: in the order of l, in float32. An index "
             "outside of 0 to M - 1 is an error. An index that is expanded along D (stride 0) adds whole rows. For "
             "inference: it has no derivative.",
      .check = check<kAdd>,
      .reference = reference_add,
      .cpu = vector_add,
  });
  registry.define<kSet>({
      .doc = "initial with x[l, d] in the place of its element [index[l, d], d]: the last of several. An index outside "
             "of 0 to M - 1 is an error. An index that is expanded along D (stride 0) writes whole rows. For "
             "inference: it has no derivative.",
      .check = check<kSet>,
      .reference = scatter<true>,
      .cpu = scatter<false>,
  });
  registry.define<kMax>({
      .doc = "initial with the largest of the x[l, d] and of itself in the place of its element [index[l, d], d], NaN "
             "being the largest; without include_initial, itself only where nothing else is. An index outside of 0 to "
             "M - 1 is an error. For inference: it has no derivative.",
      .check = check<kMax>,
      .reference = reference_max,
      .cpu = vector_max,
  });
}

}  // namespace mambasdk::indexing
