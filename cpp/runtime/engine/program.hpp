// The native program of a package, parsed and resolved (docs/architecture.md, "The native program").
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/dim_expression.hpp"
#include "core/registry.hpp"
#include "runtime/engine/engine.hpp"

namespace mambasdk::runtime {

// A number, or an expression of the extents that the inputs have at run time and of the rows that states hold before
// it, such as "(H + 1)//2".
struct Amount {
  std::int64_t number = 0;
  DimExpr expression;  // over Program::symbols; without terms: `number`

  [[nodiscard]] bool is_fixed() const { return expression.terms.empty(); }
};

// Where an argument comes from or an output goes.
struct Slot {
  enum class Kind : std::uint8_t { none, value, weight, state, scalar, amount };
  Kind kind = Kind::none;
  std::int32_t index = -1;  // of an amount: in Node::amounts
  Value scalar{};
};

struct Node {
  enum class Kind : std::uint8_t { op, slice, reshape, permute, expand, append };
  Kind kind = Kind::op;
  const Op* op = nullptr;          // of an append: what copies the rows
  std::vector<Slot> inputs;        // an op's, in signature order; a view's one input; the rows to append
  std::vector<Slot> outputs;       // an op's, in signature order (none: computed and dropped); a view's one output; the
                                   // state that an append grows, and all its rows as a value (or none)
  std::int64_t dim = 0, step = 1;  // slice
  Amount start, length;            // slice
  std::vector<Amount> shape;       // reshape, where -1 is inferred; expand, where -1 is kept
  std::vector<Amount> amounts;     // an op's integers that depend on the inputs
  std::vector<std::int64_t> dims;  // permute
};

struct Program {
  std::vector<TensorSpec> inputs;    // value i is input i
  std::vector<std::string> symbols;  // names of the inputs' free extents, then of the lengths of states that grow
  std::size_t first_length = 0;      // where these begin
  std::vector<StateSpec> states;
  std::vector<Node> prepare;  // once, at load; weights only
  std::vector<Node> nodes;
  std::vector<std::pair<std::string, std::int32_t>> outputs;  // name, value
  std::map<std::string, std::size_t, std::less<>> output_index;
  std::vector<std::string> values;   // by index
  std::vector<std::string> weights;  // by index; stored ones and prepared ones

  // Errors: corrupt (with the place), not_found (an operation), version.
  static Program parse(std::string_view text);
};

}  // namespace mambasdk::runtime
