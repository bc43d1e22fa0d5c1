// The notation of an operation's declaration, parsed. Grammar and meaning: docs/architecture.md, "An operation".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.hpp"

namespace mambasdk {

// Integer expression over dims, in postfix: constants, dims, + - * // (floor division). A name that is also that of an
// `int` argument is a dim that the argument binds.
struct DimExpr {
  enum class Kind : std::uint8_t { constant, dim, add, subtract, multiply, floor_divide };
  struct Term {
    Kind kind;
    std::int64_t value;  // the constant, or the dim's index in Signature::dims
  };
  std::vector<Term> terms;
  std::string text;

  [[nodiscard]] bool is_dim() const { return terms.size() == 1 && terms[0].kind == Kind::dim; }
  // Unbound dims hold -1; the result is nullopt when one is used, for a division by 0 and on overflow.
  [[nodiscard]] std::optional<std::int64_t> evaluate(const std::vector<std::int64_t>& dims) const;
};

struct DTypeSpec {
  enum class Kind : std::uint8_t { fixed, variable, accumulator };
  Kind kind = Kind::fixed;
  DType fixed{2, 32};
  int variable = -1;  // index in Signature::type_variables; for an accumulator, the variable it follows (T)
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
