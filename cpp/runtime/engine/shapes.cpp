// Matching of tensors with the shapes that a package states.
#include "runtime/engine/shapes.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace mambasdk::runtime {

Symbols bind_symbols(const std::vector<TensorSpec>& specs, std::span<const Tensor> tensors) {
  Symbols symbols;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const TensorSpec& spec = specs[i];
    const Tensor& t = tensors[i];
    std::string expected;
    for (const Dimension& d : spec.shape) {
      expected += (expected.empty() ? "" : ", ") + (d.symbol.empty() ? std::to_string(d.size) : d.symbol);
    }
    bool good = spec.dtype == dtype_name(t.dtype) && t.ndim == static_cast<int>(spec.shape.size());
    for (int d = 0; good && d < t.ndim; ++d) {
      const Dimension& wanted = spec.shape[static_cast<std::size_t>(d)];
      if (wanted.symbol.empty()) {
        good = wanted.size == t.size(d);
        continue;
      }
      const auto found =
          std::find_if(symbols.begin(), symbols.end(), [&](auto& s) { return s.first == wanted.symbol; });
      if (found == symbols.end()) {
        symbols.emplace_back(wanted.symbol, t.size(d));
      } else if (found->second != t.size(d)) {
        fail(ErrorCode::invalid_argument, "input ", spec.name, " is ", t.shape_text(), ", expected (", expected,
             ") with ", wanted.symbol, " = ", found->second);
      }
    }
    if (!good) {
      fail(ErrorCode::invalid_argument, "input ", spec.name, " is ", dtype_name(t.dtype), " ", t.shape_text(),
           ", expected ", spec.dtype, " (", expected, ")");
    }
  }
  return symbols;
}

std::int64_t symbol_value(const Symbols& symbols, const Dimension& d) {
  if (d.symbol.empty()) return d.size;
  for (const auto& [name, value] : symbols) {
    if (name == d.symbol) return value;
  }
  fail(ErrorCode::corrupt, "dim ", d.symbol, " is in no input");
}

}  // namespace mambasdk::runtime
