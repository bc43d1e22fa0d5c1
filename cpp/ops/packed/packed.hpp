// Weights packed once for many products (layout: kernels/packed.hpp), and what those who call the products share.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/call.hpp"
#include "ops/packed/packed_args.hpp"
#include "ops/packed/windows.hpp"

namespace mambasdk {

class Registry;
void register_packed(Registry& registry);

namespace packed {

[[nodiscard]] constexpr std::int64_t panel_count(std::int64_t columns) {
  return columns / kPackedColumns + (columns % kPackedColumns != 0 ? 1 : 0);
}

// The argument `weight` of a product: packed weights are in one piece, those of other strides are copied.
class PackedWeight {
 public:
  PackedWeight(const Context& context, const Tensor& weight, bool packed = true);
  [[nodiscard]] const void* data() const { return data_; }
  [[nodiscard]] DType type() const { return type_; }

 private:
  const void* data_;
  DType type_;
  Context::Workspace copy_;
};

// What stands behind a product, as its operations declare it.
struct Ending {
  const Tensor* bias = nullptr;      // (groups * columns)
  const Tensor* residual = nullptr;  // as y
  Activation activation = Activation::none;
  double slope = 0.0;
  bool residual_last = false;
};

// The end of an operation that has the arguments bias, residual, activation, slope and residual_last.
template <class Call>
[[nodiscard]] Ending ending_of(const Call& c) {
  return {c.template optional<"bias">(), c.template optional<"residual">(),
          activation_of(c.operation(), c.template integer<"activation">()), c.template number<"slope">(),
          c.template flag<"residual_last">()};
}

// One result in double: `sum` is the product's, without the bias, for element `column` of row `row` of y.
[[nodiscard]] double ended(const Ending& end, double sum, std::int64_t row, std::int64_t column);

// The ending as kernels take it, with its tables.
class EndingTables {
 public:
  // bias: (groups, columns rounded up to `padded`), zeros between.
  EndingTables(const Context& context, const Ending& end, const Tensor& y, std::int64_t groups, std::int64_t columns,
               std::int64_t padded);
  EndingTables(const EndingTables&) = delete;
  EndingTables& operator=(const EndingTables&) = delete;
  [[nodiscard]] const float* bias() const { return bias_; }  // null where there is none
  [[nodiscard]] const Results& results() const { return results_; }

 private:
  Context::Workspace table_;
  std::vector<std::int64_t> offsets_;
  const float* bias_ = nullptr;
  Results results_;
};

// Runs the kernel for each of the grids, which have all but the ending.
void run_windows(const Context& context, std::string_view operation, std::span<Windows> grids, const Ending& end,
                 const Tensor& y);

}  // namespace packed

}  // namespace mambasdk
