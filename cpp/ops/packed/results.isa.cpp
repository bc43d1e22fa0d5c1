// What stands behind a product's sums (contract: results.hpp).
#include "ops/packed/results.hpp"

#include "kernels/packed.hpp"
#include "ops/activation_simd.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace packed;

// A row of sums to `out`, which may be they, with a residual where it is not null.
template <class F>
[[gnu::noinline]] void finish_row(const Results& results, const float* sums, const float* residual, float* out,
                                  int columns) {
  const bool last = results.residual_last;
  for_lanes(columns, [&](std::int64_t i, int count) __attribute__((always_inline)) {
    vf x = load_n(sums + i, count);
    const vf more = residual != nullptr ? load_n(residual + i, count) : zero();
    if (residual != nullptr && !last) x = x + more;
    x = F::value(x, results.slope);
    if (residual != nullptr && last) x = x + more;
    store_n(out + i, x, count);
  });
}

using FinishRow = void (*)(const Results&, const float*, const float*, float*, int);

FinishRow finish_row_of(Activation activation) {
  switch (activation) {
#define MAMBASDK_ACTIVATION_CASE(name, ...) \
  case Activation::name:                    \
    return finish_row<name##_activation>;
    MAMBASDK_ACTIVATIONS(MAMBASDK_ACTIVATION_CASE)
#undef MAMBASDK_ACTIVATION_CASE
  }
  return nullptr;
}

}  // namespace

bool stores_sums(const Results& results, float& least) {
  MAMBASDK_SHARE_AVX512(false, stores_sums(results, least));
  least = results.activation == Activation::relu ? 0.0f : -__builtin_inff();
  const bool plain = results.activation == Activation::relu || results.activation == Activation::none;
  return plain && results.type == dtype::f32 && results.residual.data == nullptr;
}

void finish_tile(const Results& results, const FinishedTile& tile) {
  MAMBASDK_SHARE_AVX512(false, finish_tile(results, tile));
  const FinishRow finish = finish_row_of(results.activation);
  alignas(64) float buffer[kPackedColumns];
  for (int r = 0; r < tile.rows; ++r) {
    float* sums = tile.values + r * kPackedColumns;
    const std::int64_t row =
        r < tile.first ? tile.row[0] + r * tile.row_step : tile.row[1] + (r - tile.first) * tile.row_step;
    const float* residual =
        results.residual.data != nullptr ? read_row(results.residual, row, buffer, tile.columns, tile.column) : nullptr;
    const std::int64_t at = row * results.columns + tile.column;
    float* out = output_at(results.y, results.type, at, sums);
    finish(results, sums, residual, out, tile.columns);
    write_out(out, results.y, results.type, at, tile.columns);
  }
}

}  // namespace mambasdk::MAMBASDK_ISA
