#include "core/strided.hpp"

#include "core/tensor.hpp"

namespace mambasdk {

StridedView strided_view(const Tensor& tensor) {
  StridedView view{tensor.data, {}};
  for (int d = 0; d < tensor.ndim && d < 5; ++d) view.stride[d] = tensor.stride(d);
  return view;
}

StridedView strided_view(const Tensor* tensor) {
  static double nothing = 0.0;
  if (tensor == nullptr) return {};
  StridedView view = strided_view(*tensor);
  if (view.data == nullptr) view.data = &nothing;
  return view;
}

StridedView with_dims(const StridedView& view, std::initializer_list<int> dims) {
  StridedView out{view.data, {}};
  int d = 0;
  for (const int from : dims) out.stride[d++] = from >= 0 ? view.stride[from] : 0;
  return out;
}

}  // namespace mambasdk
