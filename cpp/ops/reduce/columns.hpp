// The columns of matrices one by one, for the references.
#pragma once

#include "core/element.hpp"
#include "core/tensor.hpp"
#include "ops/matrices.hpp"

namespace mambasdk::reduce {

// f(matrix, column, element), where element(l) is that of row l in double.
template <class F>
void for_columns(const Tensor& x, F&& f) {
  std::vector<std::int64_t> offsets;
  const Matrices a = matrices_of(x, offsets);
  for (std::int64_t m = 0; m < a.count; ++m) {
    for (std::int64_t d = 0; d < a.columns; ++d)
      f(m, d, [&](std::int64_t l) { return load_element(x.data, x.dtype, a.offset(m, l, d)); });
  }
}

}  // namespace mambasdk::reduce
