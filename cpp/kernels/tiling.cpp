#include "kernels/tiling.hpp"

#include <algorithm>
#include <array>

#include "core/tensor.hpp"

namespace mambasdk {
namespace {

struct Dim {
  std::int64_t size = 1;
  std::array<std::int64_t, Tiling::kTensors> stride{};
};

// The dims of more than one element, neighbours that lie together in every tensor made one; returns how many.
int merged_dims(std::span<const Tensor* const> tensors, std::array<Dim, kMaxDims>& dims) {
  int count = 0;
  for (int d = 0; d < tensors[0]->ndim; ++d) {
    Dim dim;
    dim.size = tensors[0]->size(d);
    if (dim.size == 1) continue;
    for (std::size_t t = 0; t < tensors.size(); ++t) dim.stride[t] = tensors[t]->stride(d);
    bool together = count > 0;
    for (std::size_t t = 0; together && t < tensors.size(); ++t) {
      together = dims[static_cast<std::size_t>(count - 1)].stride[t] == dim.size * dim.stride[t];
    }
    if (together) {
      dim.size *= dims[static_cast<std::size_t>(--count)].size;
    }
    dims[static_cast<std::size_t>(count++)] = dim;
  }
  if (count == 0) {  // one element
    dims[0].stride.fill(1);
    count = 1;
  }
  return count;
}

// The dim whose rows a tile has: the last but one, unless a tensor strided along the last has unit stride elsewhere.
int row_dim(const std::array<Dim, kMaxDims>& dims, int count, std::size_t tensors, bool& transposes) {
  const Dim& last = dims[static_cast<std::size_t>(count - 1)];
  for (std::size_t t = 0; t < tensors; ++t) {
    if (last.stride[t] == 0 || last.stride[t] == 1) continue;
    for (int d = 0; d < count - 1; ++d) {
      if (dims[static_cast<std::size_t>(d)].stride[t] != 1) continue;
      transposes = true;
      return d;
    }
  }
  return count - 2;
}

std::int64_t tiles(std::int64_t extent, std::int64_t size) {
  return (extent - 1) / size + 1;
}

}  // namespace

Tiling tiling_of(std::span<const Tensor* const> tensors, const Tiling::Shape& shape) {
  std::array<Dim, kMaxDims> dims;
  const int count = merged_dims(tensors, dims);
  Tiling out;
  out.tensors = static_cast<int>(tensors.size());
  const Dim& last = dims[static_cast<std::size_t>(count - 1)];
  out.columns = last.size;
  std::copy(last.stride.begin(), last.stride.end(), out.column_stride);
  const int row = row_dim(dims, count, tensors.size(), out.transposes);
  for (int d = 0; d < count - 1; ++d) {
    const Dim& dim = dims[static_cast<std::size_t>(d)];
    if (d == row) {
      out.rows = dim.size;
      std::copy(dim.stride.begin(), dim.stride.end(), out.row_stride);
      continue;
    }
    out.outer_size[out.outer_dims] = dim.size;
    for (std::size_t t = 0; t < tensors.size(); ++t) out.outer_stride[t][out.outer_dims] = dim.stride[t];
    ++out.outer_dims;
    out.count *= dim.size;
  }
  const std::int64_t elements = out.transposes ? shape.transposed_elements : shape.elements;
  out.tile_columns = std::min(out.columns, out.transposes ? shape.transposed_columns : elements);
  out.tile_rows = std::max<std::int64_t>(1, elements / out.tile_columns);
  if (out.tile_rows > 16) out.tile_rows -= out.tile_rows % 16;  // whole vectors of any set
  out.tile_rows = std::min(out.tile_rows, out.rows);
  out.row_tiles = tiles(out.rows, out.tile_rows);
  out.column_tiles = tiles(out.columns, out.tile_columns);
  out.count *= out.row_tiles * out.column_tiles;
  return out;
}

}  // namespace mambasdk
