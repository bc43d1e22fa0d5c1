#include "core/signature.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "core/error.hpp"
#include "core/tensor.hpp"

namespace mambasdk {

int Signature::input_index(std::string_view wanted) const {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].name == wanted) return static_cast<int>(i);
  }
  return -1;
}

namespace {

// Recursive descent over the text; `at_` is the next unread character.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) { signature_.text = std::string(text); }

  Signature parse() {
    signature_.name = identifier("the operation's name");
    expect('(');
    if (!accept(')')) {
      do {
        signature_.inputs.push_back(input());
      } while (accept(','));
      expect(')');
    }
    expect_text("->");
    expect('(');
    do {
      signature_.outputs.push_back(output());
    } while (accept(','));
    expect(')');
    if (accept_word("where")) {
      do {
        signature_.rules.push_back(rule());
      } while (accept(',') || accept(';'));
    }
    skip_space();
    if (at_ != text_.size()) mistake("the end of the signature");
    return std::move(signature_);
  }

 private:
  [[noreturn]] void mistake(std::string_view expected) const {
    fail(ErrorCode::invalid_argument, "signature: expected ", expected, " at position ", at_, ", before \"",
         text_.substr(at_, 24), "\" in: ", text_);
  }
  void skip_space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) mistake(std::string("'") + c + "'");
  }
  void expect_text(std::string_view wanted) {
    skip_space();
    if (text_.substr(at_, wanted.size()) != wanted) mistake(wanted);
    at_ += wanted.size();
  }
  static bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
  bool accept_word(std::string_view wanted) {
    skip_space();
    const std::size_t end = at_ + wanted.size();
    if (text_.substr(at_, wanted.size()) != wanted || (end < text_.size() && is_word(text_[end]))) return false;
    at_ = end;
    return true;
  }
  std::string identifier(std::string_view what) {
    skip_space();
    const std::size_t begin = at_;
    if (at_ < text_.size() && !std::isdigit(static_cast<unsigned char>(text_[at_]))) {
      while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    }
    if (at_ == begin) mistake(what);
    return std::string(text_.substr(begin, at_ - begin));
  }
  std::int64_t integer() {
    skip_space();
    std::int64_t value = 0;
    const std::size_t begin = at_;
    while (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])) && at_ - begin < 12) {
      value = value * 10 + (text_[at_++] - '0');
    }
    if (at_ == begin) mistake("a number");
    return value;
  }
  double real() {
    skip_space();
    if (accept_word("inf")) return std::numeric_limits<double>::infinity();
    const std::string rest(text_.substr(at_, 32));
    char* end = nullptr;
    const double value = std::strtod(rest.c_str(), &end);
    if (end == rest.c_str()) mistake("a number");
    at_ += static_cast<std::size_t>(end - rest.c_str());
    return value;
  }

  std::int64_t dim_index(const std::string& name) {
    const auto found = std::find(signature_.dims.begin(), signature_.dims.end(), name);
    if (found != signature_.dims.end()) return found - signature_.dims.begin();
    signature_.dims.push_back(name);
    return static_cast<std::int64_t>(signature_.dims.size()) - 1;
  }

  [[nodiscard]] bool is_integer_argument(std::int64_t dim) const {
    const int index = signature_.input_index(signature_.dims[static_cast<std::size_t>(dim)]);
    return index >= 0 && signature_.inputs[static_cast<std::size_t>(index)].kind == Argument::Kind::integer;
  }

  bool peek(char c) {
    skip_space();
    return at_ < text_.size() && text_[at_] == c;
  }
  DimExpr expression() {
    return read_dim_expression(text_, at_,
                               {.dim = [this](const std::string& name) { return dim_index(name); },
                                .mistake = [this](std::string_view expected) { mistake(expected); },
                                .may_divide =
                                    [this](const DimExpr::Term& divisor) {
                                      return divisor.kind == DimExpr::Kind::constant
                                                 ? divisor.value > 0
                                                 : divisor.kind == DimExpr::Kind::dim &&
                                                       is_integer_argument(divisor.value);
                                    }});
  }

  int type_variable(const std::string& name) {
    auto& variables = signature_.type_variables;
    const auto found = std::find(variables.begin(), variables.end(), name);
    if (found != variables.end()) return static_cast<int>(found - variables.begin());
    variables.push_back(name);
    return static_cast<int>(variables.size()) - 1;
  }

  // dtype '[' ['*' ','] dims ']'
  void tensor(Argument& a, const std::string& type) {
    a.kind = Argument::Kind::tensor;
    DType fixed{};
    if (type == "acc") {
      a.dtype.kind = DTypeSpec::Kind::accumulator;
      a.dtype.variable = type_variable("T");
    } else if (type == "saved") {
      a.dtype.kind = DTypeSpec::Kind::saved;
      a.dtype.variable = type_variable("T");
    } else if (dtype_from_name(type, fixed)) {
      a.dtype.fixed = fixed;
    } else {
      a.dtype.kind = DTypeSpec::Kind::variable;
      a.dtype.variable = type_variable(type);
    }
    expect('[');
    if (accept(']')) return;
    if (accept('*')) {
      a.variadic = true;
      if (accept(']')) return;
      expect(',');
    }
    do {
      a.shape.push_back(expression());
    } while (accept(','));
    expect(']');
  }

  Argument input() {
    Argument a;
    a.name = identifier("an argument's name");
    expect(':');
    const std::string type = identifier("a type");
    if (peek('[')) {
      tensor(a, type);
      a.optional = accept('?');
      return a;
    }
    if (type == "bool") {
      a.kind = Argument::Kind::boolean;
    } else if (type == "int") {
      a.kind = Argument::Kind::integer;
    } else if (type == "float") {
      a.kind = Argument::Kind::real;
    } else {
      mistake("'[' after a dtype, or one of bool, int, float");
    }
    if (!accept('=')) return a;
    a.has_default = true;
    if (a.kind == Argument::Kind::boolean) {
      a.default_flag = accept_word("true");
      if (!a.default_flag && !accept_word("false")) mistake("true or false");
    } else {
      const double sign = accept('-') ? -1.0 : 1.0;
      if (a.kind == Argument::Kind::integer) {
        a.default_integer = static_cast<std::int64_t>(sign) * integer();
      } else {
        a.default_real = sign * real();
      }
    }
    return a;
  }

  int argument(std::string_view what) {
    const std::string name = identifier(what);
    const int index = signature_.input_index(name);
    if (index < 0) mistake("the name of an argument instead of \"" + name + "\"");
    return index;
  }

  Argument output() {
    Argument a;
    a.name = identifier("an output's name");
    expect(':');
    tensor(a, identifier("a dtype"));
    if (accept_word("if")) {
      a.condition = argument("an argument after `if`");
      const Argument& condition = signature_.inputs[static_cast<std::size_t>(a.condition)];
      if (!(condition.kind == Argument::Kind::boolean || condition.optional)) {
        mistake("a bool or an optional tensor after `if`");
      }
    }
    return a;
  }

  DimRule rule() {
    DimRule r{};
    r.dim = static_cast<int>(dim_index(identifier("a dim")));
    expect('=');
    r.value = expression();
    if (!accept_word("if") || !accept_word("not")) mistake("`if not ARGUMENT`");
    r.unless = argument("an argument");
    return r;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  Signature signature_;
};

}  // namespace

Signature Signature::parse(std::string_view text) {
  return Parser(text).parse();
}

}  // namespace mambasdk
