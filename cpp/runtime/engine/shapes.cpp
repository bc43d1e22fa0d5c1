// Matching of tensors with the shapes that a package states.
#include "runtime/engine/shapes.hpp"

#include "core/error.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

std::string spec_text(const TensorSpec& spec) {
  std::string text = spec.dtype + " (";
  for (std::size_t d = 0; d < spec.shape.size(); ++d) {
    const Dimension& extent = spec.shape[d];
    text += (d > 0 ? ", " : "") + (extent.symbol.empty() ? std::to_string(extent.size) : extent.symbol);
  }
  return printable(text + (spec.shape.size() == 1 ? ",)" : ")"));
}

Symbols bind_symbols(const std::vector<TensorSpec>& specs, std::span<const Tensor> tensors) {
  Symbols symbols;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const TensorSpec& spec = specs[i];
    const Tensor& t = tensors[i];
    bool good = spec.dtype == dtype_name(t.dtype) && t.ndim == static_cast<int>(spec.shape.size());
    for (int d = 0; good && d < t.ndim; ++d) {
      const Dimension& wanted = spec.shape[static_cast<std::size_t>(d)];
      if (wanted.symbol.empty()) {
        good = wanted.size == t.size(d);
        continue;
      }
      const auto [bound, added] = symbols.emplace(wanted.symbol, t.size(d));
      if (!added && bound->second != t.size(d)) {
        fail(ErrorCode::invalid_argument, "input ", printable(spec.name), " is ", dtype_name(t.dtype), " ",
             t.shape_text(), ", expected ", spec_text(spec), " with ", printable(wanted.symbol), " = ", bound->second);
      }
    }
    if (!good) {
      fail(ErrorCode::invalid_argument, "input ", printable(spec.name), " is ", dtype_name(t.dtype), " ",
           t.shape_text(), ", expected ", spec_text(spec));
    }
  }
  return symbols;
}

std::int64_t symbol_value(const Symbols& symbols, const Dimension& d) {
  if (d.symbol.empty()) return d.size;
  const auto found = symbols.find(d.symbol);
  if (found == symbols.end()) fail(ErrorCode::corrupt, "dim ", printable(d.symbol), " is in no input");
  return found->second;
}

void check_output(const TensorSpec& spec, const Tensor& made, const Symbols& symbols) {
  bool good = spec.dtype == dtype_name(made.dtype) && made.ndim == static_cast<int>(spec.shape.size());
  for (int d = 0; good && d < made.ndim; ++d) {
    const Dimension& stated = spec.shape[static_cast<std::size_t>(d)];
    if (stated.symbol.empty()) {
      good = stated.size == made.size(d);
    } else if (const auto bound = symbols.find(stated.symbol); bound != symbols.end()) {
      good = bound->second == made.size(d);
    }
  }
  if (!good) {
    fail(ErrorCode::corrupt, "output ", printable(spec.name), " is ", dtype_name(made.dtype), " ", made.shape_text(),
         ", the package states ", spec_text(spec), "; export the model again");
  }
}

}  // namespace mambasdk::runtime
