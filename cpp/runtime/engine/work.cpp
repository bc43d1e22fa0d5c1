#include "runtime/engine/work.hpp"

#include <algorithm>
#include <vector>

#include "core/error.hpp"

namespace mambasdk::runtime {

namespace {

constexpr std::uint64_t kMost = std::uint64_t{1} << 62;

std::uint64_t times(std::uint64_t work, std::int64_t extent) {
  const auto factor = static_cast<std::uint64_t>(std::max<std::int64_t>(extent, 1));
  return work > kMost / factor ? kMost : work * factor;
}

std::uint64_t elements(const Tensor& t) {
  std::uint64_t count = 1;
  for (int d = 0; d < t.ndim; ++d) {
    if (t.size(d) == 0) return 0;
    count = times(count, t.size(d));
  }
  return count;
}

// Whether an extent is a sum of dims and nothing else, as that of tensors that are joined.
bool is_sum(const DimExpr& e) {
  return e.terms.size() > 1 && std::all_of(e.terms.begin(), e.terms.end(), [](const DimExpr::Term& term) {
           return term.kind == DimExpr::Kind::dim || term.kind == DimExpr::Kind::add;
         });
}

// The product of all dims: an upper bound for what contracts. Dims that an output adds up count by their sum.
std::uint64_t product_of_dims(const Signature& signature, std::span<const std::int64_t> dims) {
  std::vector<std::int64_t> factors(dims.begin(), dims.end());
  for (const Argument& output : signature.outputs) {
    for (const DimExpr& e : output.shape) {
      if (!is_sum(e)) continue;
      std::int64_t sum = 0;
      for (const DimExpr::Term& term : e.terms) {
        if (term.kind != DimExpr::Kind::dim) continue;
        const auto dim = static_cast<std::size_t>(term.value);
        if (__builtin_add_overflow(sum, std::max<std::int64_t>(dims[dim], 0), &sum)) return kMost;
        factors[dim] = 1;
      }
      factors.push_back(sum);
    }
  }
  std::uint64_t product = 1;
  for (const std::int64_t factor : factors) product = times(product, factor);
  return product;
}

}  // namespace

std::uint64_t operation_work(const Op& op, std::span<const Value> inputs, std::span<const Tensor> outputs,
                             std::span<const std::int64_t> dims) {
  std::uint64_t touched = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const bool is_tensor = op.signature.inputs[i].kind == Argument::Kind::tensor;
    if (is_tensor && inputs[i].tensor != nullptr) touched = std::min(kMost, touched + elements(*inputs[i].tensor));
  }
  for (const Tensor& t : outputs) touched = std::min(kMost, touched + elements(t));
  std::uint64_t product = product_of_dims(op.signature, dims);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Argument& a = op.signature.inputs[i];
    if (a.kind != Argument::Kind::tensor || !a.variadic || inputs[i].tensor == nullptr) continue;
    const Tensor& t = *inputs[i].tensor;
    for (int d = 0; d < t.ndim - static_cast<int>(a.shape.size()); ++d) product = times(product, t.size(d));
    break;  // the leading dims are the same in every tensor
  }
  return std::max(touched, product);
}

void WorkBudget::spend(std::uint64_t work, std::string_view what) {
  if (most_ == kUnlimitedWork) return;
  if (work > left_) {
    fail(ErrorCode::unsupported, what, " takes about ", work, " steps, more than the ", left_, " that are left of ",
         most_, " for what the package holds");
  }
  left_ -= work;
}

}  // namespace mambasdk::runtime
