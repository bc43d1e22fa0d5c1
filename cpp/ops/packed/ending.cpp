// What stands behind a product: bias, residual and activation.
#include "core/element.hpp"
#include "core/extent.hpp"
#include "kernels/pairs.hpp"
#include "ops/packed/packed.hpp"

namespace mambasdk::packed {

double ended(const Ending& end, double sum, std::int64_t row, std::int64_t column) {
  if (end.bias != nullptr) sum += load_element(end.bias->data, end.bias->dtype, column * end.bias->stride(0));
  double residual = 0.0;
  if (end.residual != nullptr) {
    const Tensor& r = *end.residual;
    residual = load_element(r.data, r.dtype, row_offset(r, row) + column * r.stride(-1));
  }
  if (!end.residual_last) sum += residual;
  sum = activated(end.activation, sum, end.slope);
  return end.residual_last ? sum + residual : sum;
}

EndingTables::EndingTables(const Context& context, const Ending& end, const Tensor& y, std::int64_t groups,
                           std::int64_t columns, std::int64_t padded)
    : table_(nullptr, {}) {
  if (end.bias != nullptr) {
    const Tensor& bias = *end.bias;
    if (bias.dtype == dtype::f32 && bias.stride(0) == 1 && padded == columns) {
      bias_ = bias.ptr<const float>();
    } else {
      table_ = context.workspace((Extent(groups) * padded * sizeof(float)).bytes());
      auto* to = reinterpret_cast<float*>(table_.get());
      for (std::int64_t i = 0; i < groups * padded; ++i) {
        const std::int64_t column = i % padded, o = i / padded * columns + column;
        to[i] = column < columns ? static_cast<float>(load_element(bias.data, bias.dtype, o * bias.stride(0))) : 0.0f;
      }
      bias_ = to;
    }
  }
  results_ = {.y = y.data,
              .type = y.dtype,
              .columns = y.size(-1),
              .residual = rows_view(end.residual, offsets_),
              .residual_last = end.residual_last,
              .activation = end.activation,
              .slope = static_cast<float>(end.slope)};
}

void run_windows(const Context& context, std::string_view operation, std::span<Windows> grids, const Ending& end,
                 const Tensor& y) {
  static const float kZeros[kPackedColumns] = {};
  const Windows& first = grids.front();
  const EndingTables tables(context, end, y, first.groups, first.columns, first.panels * kPackedColumns);
  for (Windows& w : grids) {
    w.has_bias = tables.bias() != nullptr;
    w.bias = w.has_bias ? tables.bias() : kZeros;
    w.results = tables.results();
    w.pairs = pair_products() == PairProducts::vectors;
    need_scratch(MAMBASDK_PICK(window_products)(w, context.parallel(), thread_scratch(context)), operation);
  }
}

}  // namespace mambasdk::packed
