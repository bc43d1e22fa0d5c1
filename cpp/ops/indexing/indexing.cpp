#include "ops/indexing/indexing.hpp"

#include "core/registry.hpp"

namespace mambasdk {
namespace indexing {

void check_indices(const NamedTensor& index, std::int64_t count, std::string_view what) {
  const Tensor& t = *index.tensor;
  if (t.data == nullptr || t.device != Device::cpu || t.numel() == 0) return;
  std::vector<std::int64_t> offsets;
  const Matrices a = matrices_of(t, offsets);
  const std::int64_t different = a.column_stride == 0 ? 1 : a.columns;
  for (std::int64_t m = 0; m < a.count; ++m) {
    for (std::int64_t r = 0; r < a.rows; ++r) {
      for (std::int64_t d = 0; d < different; ++d) {
        const std::int64_t value = index_at(a, m, r, d);
        if (value >= 0 && value < count) continue;
        fail(ErrorCode::invalid_argument, index.operation, ": element ", (m * a.rows + r) * a.columns + d, " of ",
             index.name, " is ", value, ", expected a row of ", what, ", 0 to ", count - 1);
      }
    }
  }
}

}  // namespace indexing

void register_indexing(Registry& registry) {
  using namespace indexing;
  register_gather(registry);
  register_scatter(registry);
  register_sort(registry);
  register_topk(registry);
}

}  // namespace mambasdk
