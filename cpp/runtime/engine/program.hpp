// The native program of a package, parsed and resolved (docs/architecture.md, "The native program").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/registry.hpp"
#include "runtime/engine/engine.hpp"

namespace mambasdk::runtime {

// Where an argument comes from or an output goes.
struct Slot {
  enum class Kind : std::uint8_t { none, value, weight, state, scalar };
  Kind kind = Kind::none;
  std::int32_t index = -1;
  Value scalar{};
};

struct Node {
  enum class Kind : std::uint8_t { op, slice, reshape, permute, expand };
  Kind kind = Kind::op;
  const Op* op = nullptr;
  std::vector<Slot> inputs;   // an op's, in signature order; a view's one input
  std::vector<Slot> outputs;  // an op's, in signature order (none: computed and dropped); a view's one output
  std::int64_t dim = 0, start = 0, length = 0;  // slice
  std::vector<Dimension> shape;                 // reshape, where -1 is inferred; expand, where -1 is kept
  std::vector<std::int64_t> dims;               // permute
};

struct Program {
  std::vector<TensorSpec> inputs;  // value i is input i
  std::vector<StateSpec> states;
  std::vector<Node> prepare;  // once, at load; weights only
  std::vector<Node> nodes;
  std::vector<std::pair<std::string, std::int32_t>> outputs;  // name, value
  std::vector<std::string> values;                            // by index
  std::vector<std::string> weights;                           // by index; stored ones and prepared ones

  // Errors: corrupt (with the place), not_found (an operation), version.
  static Program parse(std::string_view text);
};

}  // namespace mambasdk::runtime
