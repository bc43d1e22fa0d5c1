#include "ops/group_norm/group_norm.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/element.hpp"
#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/channel_last.hpp"

namespace mambasdk {
namespace group_norm {
namespace {

constexpr Declaration kNorm =
    "group_norm(x: T[B,S,C], weight: W[C]?, bias: W[C]?, groups: int = 1, eps: float = 1e-5) -> (y: T[B,S,C])";
constexpr Declaration kScale = "scale_shift(x: T[*,C], scale: W[C], shift: W[C]) -> (y: T[*,C])";

void check(const CallOf<kNorm>& c) {
  const std::int64_t groups = c.integer<"groups">(), channels = c.dim<"C">();
  const double eps = c.number<"eps">();
  if (groups < 1 || channels % groups != 0) {
    fail(ErrorCode::invalid_argument, c.operation(), ": groups is ", groups, ", expected a divisor of C = ", channels);
  }
  if (!std::isfinite(eps) || eps < 0.0) {
    fail(ErrorCode::invalid_argument, c.operation(), ": eps is ", eps, ", expected a finite number of at least 0");
  }
}

// A vector of parameters in float64, `absent` where there is none.
std::vector<double> read(const Tensor* t, std::int64_t n, double absent) {
  std::vector<double> out(static_cast<std::size_t>(n), absent);
  for (std::int64_t i = 0; t != nullptr && i < n; ++i)
    out[static_cast<std::size_t>(i)] = load_element(t->data, t->dtype, i * t->stride(0));
  return out;
}

void reference(const CallOf<kNorm>& c) {
  const Tensor &x = c.tensor<"x">(), &y = c.output<"y">();
  const std::int64_t rows = c.dim<"S">(), channels = c.dim<"C">(), size = channels / c.integer<"groups">();
  const std::vector<double> weight = read(c.optional<"weight">(), channels, 1.0);
  const std::vector<double> bias = read(c.optional<"bias">(), channels, 0.0);
  const auto count = static_cast<double>(rows) * static_cast<double>(size);
  for (std::int64_t b = 0; b < c.dim<"B">(); ++b) {
    for (std::int64_t first = 0; first < channels; first += size) {
      const auto each = [&](auto&& f) {
        for (std::int64_t s = 0; s < rows; ++s)
          for (std::int64_t d = first; d < first + size; ++d)
            f(load_element(x.data, x.dtype, b * x.stride(0) + s * x.stride(1) + d * x.stride(2)), s, d);
      };
      double mean = 0.0, square = 0.0;
      each([&](double v, auto...) { mean += v; });
      mean /= count;
      each([&](double v, auto...) { square += (v - mean) * (v - mean); });
      const double rstd = 1.0 / std::sqrt(square / count + c.number<"eps">());
      each([&](double v, std::int64_t s, std::int64_t d) {
        const auto i = static_cast<std::size_t>(d);
        store_element(y.data, y.dtype, (b * rows + s) * channels + d, (v - mean) * rstd * weight[i] + bias[i]);
      });
    }
  }
}

// How many rows of `channels` elements are one of the kernels': so many that their vectors are full.
std::int64_t folded(std::int64_t channels, bool contiguous) {
  constexpr std::int64_t kLanes = 16, kEnough = 64;  // of every instruction set, so that all have the same sums
  if (!contiguous || channels >= kEnough) return 1;
  std::int64_t rows = kLanes / std::gcd(channels, kLanes);
  while (rows * channels < kEnough) rows *= 2;
  return rows;
}

Context::Workspace floats(const Context& context, Extent count) {
  return context.workspace((count * sizeof(float) + 64).bytes());  // there may be none of them
}
float* data_of(const Context::Workspace& w) {
  return reinterpret_cast<float*>(w.get());
}

struct Statistics {
  double mean, rstd;
};

// The columns of one batch entry, and the elements of rows that make no whole row of the kernels.
struct Columns {
  std::int64_t rows, channels;
  std::vector<double> mean, square;  // (columns,)
  std::vector<double> rest;          // (rows, channels)

  // Of channels [first, first + size) together.
  [[nodiscard]] Statistics of(std::int64_t first, std::int64_t size, double eps) const {
    const auto n = static_cast<double>(rows);
    const auto step = static_cast<std::size_t>(channels);
    double sum = 0.0, count = 0.0, squares = 0.0;
    for (auto d = static_cast<std::size_t>(first); d < static_cast<std::size_t>(first + size); ++d) {
      for (std::size_t i = d; i < mean.size(); i += step) sum += n * mean[i], count += n;
      for (std::size_t i = d; i < rest.size(); i += step) sum += rest[i], count += 1.0;
    }
    const double center = sum / count;
    const auto squared = [&](double v) { return (v - center) * (v - center); };
    for (auto d = static_cast<std::size_t>(first); d < static_cast<std::size_t>(first + size); ++d) {
      for (std::size_t i = d; i < mean.size(); i += step) squares += square[i] + n * squared(mean[i]);
      for (std::size_t i = d; i < rest.size(); i += step) squares += squared(rest[i]);
    }
    return {center, 1.0 / std::sqrt(squares / count + eps)};
  }
};

// `statistics` (2, columns), of the first `rows` rows of the batch entry that begins at element `at` of x.
Columns columns_of(const Tensor& x, std::int64_t at, std::int64_t rows, std::int64_t fold, const float* statistics) {
  const std::int64_t channels = x.size(2), columns = fold * channels;
  const auto element = [&](std::int64_t r, std::int64_t d) {
    return load_element(x.data, x.dtype, at + r * x.stride(1) + d);
  };
  Columns out{.rows = rows, .channels = channels, .mean = {}, .square = {}, .rest = {}};
  for (std::int64_t i = 0; rows > 0 && i < columns; ++i) {
    out.mean.push_back(element(i / channels, i % channels) + static_cast<double>(statistics[i]));
    out.square.push_back(static_cast<double>(statistics[columns + i]));
  }
  for (std::int64_t r = rows * fold; r < x.size(1); ++r)
    for (std::int64_t d = 0; d < channels; ++d) out.rest.push_back(element(r, d));
  return out;
}

void vector(const CallOf<kNorm>& c) {
  Context::Workspace copy{nullptr, {}};
  const Tensor x = channel_last(c.tensor<"x">(), c.context(), copy);
  const std::int64_t batch = c.dim<"B">(), total = c.dim<"S">(), channels = c.dim<"C">();
  const std::int64_t fold = folded(channels, total <= 1 || x.stride(1) == channels);
  const std::int64_t rows = total / fold, rest = total % fold, columns = fold * channels;
  const std::int64_t row_stride = fold * x.stride(1);

  ColumnArgs s{.x = x.data, .type = x.dtype, .batch = batch, .rows = rows, .columns = columns};
  s.batch_stride = x.stride(0);
  s.row_stride = row_stride;
  s.parts = (rows + kPartRows - 1) / kPartRows;
  const Context::Workspace partial = floats(c.context(), Extent(batch) * s.parts * columns * 2);
  const Context::Workspace statistics = floats(c.context(), Extent(batch) * columns * 2);
  const Context::Workspace tables = floats(c.context(), Extent(batch) * columns * 3);
  s.partial = data_of(partial);
  s.out = data_of(statistics);
  if (rows > 0) MAMBASDK_PICK(column_statistics)(s, c.context().parallel());

  const std::vector<double> weight = read(c.optional<"weight">(), channels, 1.0);
  const std::vector<double> bias = read(c.optional<"bias">(), channels, 0.0);
  const std::int64_t size = channels / c.integer<"groups">();
  for (std::int64_t b = 0; b < batch; ++b) {
    const Columns all = columns_of(x, b * x.stride(0), rows, fold, s.out + b * 2 * columns);
    float* table = data_of(tables) + b * 3 * columns;
    for (std::int64_t first = 0; first < channels; first += size) {
      const Statistics group = all.of(first, size, c.number<"eps">());
      for (std::int64_t d = first; d < first + size; ++d) {
        const double scale = group.rstd * weight[static_cast<std::size_t>(d)];
        const auto mean = static_cast<float>(group.mean);
        // What rounding the mean took away comes back with the shift.
        const double shift = (static_cast<double>(mean) - group.mean) * scale + bias[static_cast<std::size_t>(d)];
        for (std::int64_t i = d; i < columns; i += channels) {
          table[i] = mean;
          table[columns + i] = static_cast<float>(scale);
          table[2 * columns + i] = static_cast<float>(shift);
        }
      }
    }
  }

  AffineArgs a{.x = x.data, .type = x.dtype, .batch = batch, .rows = rows + (rest > 0 ? 1 : 0), .columns = columns};
  a.last_columns = rest > 0 ? rest * channels : columns;
  a.batch_stride = x.stride(0);
  a.row_stride = row_stride;
  a.mean = data_of(tables);
  a.scale = a.mean + columns;
  a.shift = a.mean + 2 * columns;
  a.table_stride = 3 * columns;
  a.y_batch_stride = total * channels;
  a.y = c.output<"y">().data;
  MAMBASDK_PICK(affine_columns)(a, c.context().parallel());
}

void reference_scale(const CallOf<kScale>& c) {
  const Tensor &x = c.tensor<"x">(), &y = c.output<"y">();
  const std::int64_t channels = c.dim<"C">(), rows = row_count(x);
  const std::vector<double> scale = read(c.optional<"scale">(), channels, 1.0);
  const std::vector<double> shift = read(c.optional<"shift">(), channels, 0.0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t d = 0; d < channels; ++d) {
      const double v = load_element(x.data, x.dtype, row_offset(x, r) + d * x.stride(-1));
      const auto i = static_cast<std::size_t>(d);
      store_element(y.data, y.dtype, r * channels + d, v * scale[i] + shift[i]);
    }
  }
}

void vector_scale(const CallOf<kScale>& c) {
  Context::Workspace copy{nullptr, {}};
  const Tensor x = channel_last(c.tensor<"x">(), c.context(), copy);
  const std::int64_t channels = c.dim<"C">(), total = row_count(x);
  const std::int64_t fold = folded(channels, x.is_contiguous()), columns = fold * channels;
  const std::vector<double> scale = read(c.optional<"scale">(), channels, 1.0);
  const std::vector<double> shift = read(c.optional<"shift">(), channels, 0.0);
  const Context::Workspace tables = floats(c.context(), Extent(columns) * 2);
  float* table = data_of(tables);
  for (std::int64_t i = 0; i < columns; ++i) {
    table[i] = static_cast<float>(scale[static_cast<std::size_t>(i % channels)]);
    table[columns + i] = static_cast<float>(shift[static_cast<std::size_t>(i % channels)]);
  }
  std::vector<std::int64_t> offsets;
  const Rows rows = rows_view(&x, offsets);
  AffineArgs a{.x = x.data, .type = x.dtype, .batch = 1, .rows = (total + fold - 1) / fold, .columns = columns};
  a.last_columns = total % fold > 0 ? total % fold * channels : columns;
  a.offset = rows.offset;
  a.row_stride = fold * rows.stride;
  a.scale = table;
  a.shift = table + columns;
  a.y = c.output<"y">().data;
  MAMBASDK_PICK(affine_columns)(a, c.context().parallel());
}

}  // namespace
}  // namespace group_norm

void register_group_norm(Registry& registry) {
  using namespace group_norm;
  registry.define<kNorm>({
      .doc =
          "(x - mean) / sqrt(variance + eps) over S and the C / groups channels of each group (arXiv 1803.08494), "
          "then times `weight` plus `bias`; with groups = C that is the instance norm. Statistics in float32 of parts, "
          "which are joined in float64. For inference: it has no derivative.",
      .check = check,
      .reference = reference,
      .cpu = vector,
  });
  registry.define<kScale>({
      .doc = "x * scale + shift, channel by channel: a batch norm whose statistics are folded into both. For "
             "inference: it has no derivative.",
      .reference = reference_scale,
      .cpu = vector_scale,
  });
}

}  // namespace mambasdk
