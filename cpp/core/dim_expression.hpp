// Integer expressions over dims, as in an operation's declaration and in the shapes of a native program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mambasdk {

// In postfix. Everywhere: constants, dims, + - * // (floor division). In programs also % (its remainder), min(a, b),
// max(a, b) and signs. In a declaration, a name that is also that of an `int` argument is a dim that the argument
// binds.
struct DimExpr {
  enum class Kind : std::uint8_t { constant, dim, add, subtract, multiply, floor_divide, modulo, minimum, maximum };
  struct Term {
    Kind kind;
    std::int64_t value;  // the constant, or the dim's index
  };
  std::vector<Term> terms;
  std::string text;

  [[nodiscard]] bool is_dim() const { return terms.size() == 1 && terms[0].kind == Kind::dim; }
  // Unbound dims hold -1; the result is nullopt when one is used, for a division by 0 and on overflow.
  [[nodiscard]] std::optional<std::int64_t> evaluate(const std::vector<std::int64_t>& dims) const;
};

[[nodiscard]] std::string_view operator_text(DimExpr::Kind kind);  // "+"; of a constant or a dim ""

// What reads an expression at a place in a text needs from its reader.
struct DimExprReader {
  std::function<std::int64_t(const std::string& name)> dim;        // the index of a dim of this name
  std::function<void(std::string_view expected)> mistake;          // throws; at the place where reading stopped
  std::function<bool(const DimExpr::Term&)> may_divide = nullptr;  // what may stand after //; null: anything
  bool in_program = false;                                         // else in a declaration
};

// Reads text from `at` on, which is moved behind it. Parentheses nest at most 32 deep.
[[nodiscard]] DimExpr read_dim_expression(std::string_view text, std::size_t& at, const DimExprReader& reader);

}  // namespace mambasdk
