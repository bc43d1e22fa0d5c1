// The notation of an operation's declaration, parsed. Grammar and meaning: docs/architecture.md, "An operation".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/dim_expression.hpp"
#include "core/dtype.hpp"

namespace mambasdk {

struct DTypeSpec {
  enum class Kind : std::uint8_t { fixed, variable, accumulator, saved };
  Kind kind = Kind::fixed;
  DType fixed{2, 32};
  int variable =
      -1;  // index in Signature::type_variables; for an accumulator or what is saved, the variable it follows (T)
};

struct Argument {
  enum class Kind : std::uint8_t { tensor, boolean, integer, real };
  std::string name;
  Kind kind = Kind::tensor;
  // tensors
  DTypeSpec dtype;
  bool variadic = false;  // has a leading `*`
  std::vector<DimExpr> shape;
  bool optional = false;
  int condition = -1;  // outputs: index of the argument after `if`, -1 when unconditional
  // scalars
  bool has_default = false;
  bool default_flag = false;
  std::int64_t default_integer = 0;
  double default_real = 0.0;
};

struct DimRule {  // where DIM = EXPR if not ARG
  int dim;
  DimExpr value;
  int unless;  // argument index
};

struct Signature {
  std::string text;
  std::string name;
  std::vector<Argument> inputs;
  std::vector<Argument> outputs;
  std::vector<std::string> dims;
  std::vector<std::string> type_variables;
  std::vector<DimRule> rules;

  // Throws Error(invalid_argument) with the position of the first mistake.
  static Signature parse(std::string_view text);
  [[nodiscard]] int input_index(std::string_view name) const;  // -1 when there is none
};

}  // namespace mambasdk
