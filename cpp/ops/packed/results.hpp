// From a tile of sums to y: residual, activation, conversion. Plain arguments of the kernel. Safe to include from
// *.isa.cpp.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "ops/activation.hpp"
#include "ops/rows.hpp"

namespace mambasdk {
namespace packed {

// Where results go, and what is done to them on the way.
struct Results {
  void* y = nullptr;  // rows of `columns`, contiguous
  DType type{2, 32};
  std::int64_t columns = 0;
  Rows residual;  // a row for each of y's
  bool residual_last = false;
  Activation activation = Activation::none;
  float slope = 0.0f;
};

// Sums of a tile, and where they belong.
struct FinishedTile {
  float* values;        // (rows, kPackedColumns); overwritten
  std::int64_t row[2];  // of y, for the first rows of the tile and for the others
  int first, rows;
  std::int64_t row_step;
  std::int64_t column;  // of y
  int columns;          // at most kPackedColumns
};

}  // namespace packed

// Whether a maximum is all there is between sums and y, which kernels then store themselves: the other argument of it.
MAMBASDK_DECLARE_KERNEL(bool, stores_sums, const packed::Results& results, float& least);
MAMBASDK_DECLARE_KERNEL(void, finish_tile, const packed::Results& results, const packed::FinishedTile& tile);

}  // namespace mambasdk
