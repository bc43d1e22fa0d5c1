#include "core/dim_expression.hpp"

#include <algorithm>
#include <cctype>

#include "core/error.hpp"

namespace mambasdk {

namespace {

// The quotient rounded down, and what is left; right is not 0.
std::optional<std::int64_t> floor_quotient(std::int64_t left, std::int64_t right) {
  std::int64_t quotient = 0;
  if (right == -1) {
    if (__builtin_sub_overflow(std::int64_t{0}, left, &quotient)) return std::nullopt;
    return quotient;
  }
  quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

std::optional<std::int64_t> apply(DimExpr::Kind kind, std::int64_t left, std::int64_t right) {
  using Kind = DimExpr::Kind;
  std::int64_t result = 0;
  switch (kind) {
    case Kind::add:
      return __builtin_add_overflow(left, right, &result) ? std::nullopt : std::optional(result);
    case Kind::subtract:
      return __builtin_sub_overflow(left, right, &result) ? std::nullopt : std::optional(result);
    case Kind::multiply:
      return __builtin_mul_overflow(left, right, &result) ? std::nullopt : std::optional(result);
    case Kind::minimum:
      return std::min(left, right);
    case Kind::maximum:
      return std::max(left, right);
    default:
      break;
  }
  if (right == 0) return std::nullopt;
  const std::optional<std::int64_t> quotient = floor_quotient(left, right);
  if (kind == Kind::floor_divide || !quotient) return quotient;
  return left - *quotient * right;
}

class Reader {
 public:
  Reader(std::string_view text, std::size_t& at, const DimExprReader& names) : text_(text), at_(at), names_(names) {}

  DimExpr read() {
    DimExpr e;
    skip_space();
    const std::size_t begin = at_;
    sum(e);
    std::size_t end = at_;
    while (end > begin && std::isspace(static_cast<unsigned char>(text_[end - 1]))) --end;
    e.text = std::string(text_.substr(begin, end - begin));
    return e;
  }

 private:
  static constexpr int kMostNesting = 32;

  void skip_space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool sees(std::string_view wanted) {
    skip_space();
    return text_.substr(at_, wanted.size()) == wanted;
  }
  bool accept(std::string_view wanted) {
    if (!sees(wanted)) return false;
    at_ += wanted.size();
    return true;
  }
  void expect(std::string_view wanted) {
    if (!accept(wanted)) names_.mistake(concat("'", wanted, "'"));
  }

  // sum := product (('+'|'-') product)*; product := atom (('*'|'//'|'%') atom)*
  void sum(DimExpr& e) {
    product(e);
    while (true) {
      if (accept("+")) {
        product(e);
        e.terms.push_back({DimExpr::Kind::add, 0});
      } else if (!sees("->") && accept("-")) {
        product(e);
        e.terms.push_back({DimExpr::Kind::subtract, 0});
      } else {
        return;
      }
    }
  }
  void product(DimExpr& e) {
    atom(e);
    while (true) {
      if (accept("*")) {
        atom(e);
        e.terms.push_back({DimExpr::Kind::multiply, 0});
      } else if (accept("//")) {
        divisor(e);
        e.terms.push_back({DimExpr::Kind::floor_divide, 0});
      } else if (names_.in_program && accept("%")) {
        divisor(e);
        e.terms.push_back({DimExpr::Kind::modulo, 0});
      } else {
        return;
      }
    }
  }
  void divisor(DimExpr& e) {
    atom(e);
    if (names_.may_divide && !names_.may_divide(e.terms.back())) {
      names_.mistake("a positive constant or an int argument after //");
    }
  }
  // atom := '(' sum ')' | ('min'|'max') '(' sum ',' sum ')' | '-' atom | number | name
  void atom(DimExpr& e) {
    skip_space();
    if (accept("(")) {
      deeper([&] { sum(e); });
      expect(")");
    } else if (names_.in_program && accept("-")) {
      e.terms.push_back({DimExpr::Kind::constant, 0});
      deeper([&] { atom(e); });
      e.terms.push_back({DimExpr::Kind::subtract, 0});
    } else if (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_]))) {
      e.terms.push_back({DimExpr::Kind::constant, number()});
    } else {
      name(e);
    }
  }
  void name(DimExpr& e) {
    const std::size_t begin = at_;
    while (at_ < text_.size() && (std::isalpha(static_cast<unsigned char>(text_[begin])) || text_[begin] == '_') &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_'))
      ++at_;
    if (at_ == begin) names_.mistake("a dim");
    const std::string found(text_.substr(begin, at_ - begin));
    if (names_.in_program && (found == "min" || found == "max") && accept("(")) {
      deeper([&] { sum(e); });
      expect(",");
      deeper([&] { sum(e); });
      expect(")");
      e.terms.push_back({found == "min" ? DimExpr::Kind::minimum : DimExpr::Kind::maximum, 0});
      return;
    }
    e.terms.push_back({DimExpr::Kind::dim, names_.dim(found)});
  }
  std::int64_t number() {
    std::int64_t value = 0;
    for (int digits = 0; digits < 12 && at_ < text_.size(); ++digits) {
      if (!std::isdigit(static_cast<unsigned char>(text_[at_]))) break;
      value = value * 10 + (text_[at_++] - '0');
    }
    return value;
  }
  template <class F>
  void deeper(F&& inner) {
    if (++depth_ > kMostNesting) names_.mistake("fewer parentheses");
    inner();
    --depth_;
  }

  std::string_view text_;
  std::size_t& at_;
  const DimExprReader& names_;
  int depth_ = 0;
};

}  // namespace

std::optional<std::int64_t> DimExpr::evaluate(const std::vector<std::int64_t>& dims) const {
  std::vector<std::int64_t> stack;
  for (const Term& term : terms) {
    if (term.kind == Kind::constant) {
      stack.push_back(term.value);
      continue;
    }
    if (term.kind == Kind::dim) {
      const std::int64_t bound = dims[static_cast<std::size_t>(term.value)];
      if (bound < 0) return std::nullopt;
      stack.push_back(bound);
      continue;
    }
    const std::int64_t right = stack.back();
    stack.pop_back();
    const std::optional<std::int64_t> result = apply(term.kind, stack.back(), right);
    if (!result) return std::nullopt;
    stack.back() = *result;
  }
  return stack.back();
}

std::string_view operator_text(DimExpr::Kind kind) {
  switch (kind) {
    case DimExpr::Kind::add:
      return "+";
    case DimExpr::Kind::subtract:
      return "-";
    case DimExpr::Kind::multiply:
      return "*";
    case DimExpr::Kind::floor_divide:
      return "//";
    case DimExpr::Kind::modulo:
      return "%";
    case DimExpr::Kind::minimum:
      return "min";
    case DimExpr::Kind::maximum:
      return "max";
    default:
      return "";
  }
}

DimExpr read_dim_expression(std::string_view text, std::size_t& at, const DimExprReader& reader) {
  return Reader(text, at, reader).read();
}

}  // namespace mambasdk
