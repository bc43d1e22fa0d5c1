// An operation's declaration, read while compiling: where each argument, output and dim stands, so that kernels ask for
// them by name, and what the declaration of the derivative is. Notation: docs/architecture.md, "An operation". It needs
// nothing of the SDK, and the library itself reads with it too.
#ifndef MAMBASDK_DECLARATION_HPP_
#define MAMBASDK_DECLARATION_HPP_

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string_view>

namespace mambasdk {
inline namespace abi1 {

// A name as a template argument: call.tensor<"x">().
template <std::size_t N>
struct Name {
  char text[N]{};
  consteval Name(const char (&from)[N]) {  // NOLINT: written as a literal
    for (std::size_t i = 0; i < N; ++i) text[i] = from[i];
  }
  constexpr operator std::string_view() const { return {text, N - 1}; }  // NOLINT: a name is a text
};

// What the derivative of an operation reads beyond the rule (see derivative()).
struct Reads {
  std::string_view saved = {};   // an output of the operation
  std::string_view after = {};   // the input that it follows
  std::string_view unused = {};  // an input that the derivative does not read
};

// The parts of one declaration, as places in its text. A mistake in a constant declaration does not compile.
class Declaration {
 public:
  static constexpr std::size_t kMaxText = 2048, kMaxArguments = 32, kMaxDims = 32;
  enum class Kind : std::uint8_t { tensor, boolean, integer, real };

  constexpr Declaration(std::string_view text) {  // NOLINT: written as a literal
    append(text);
    read();
  }
  template <std::size_t N>
  constexpr Declaration(const char (&text)[N]) : Declaration(std::string_view(text, N - 1)) {}  // NOLINT: as above
  // For operations that differ in the name alone: `rest` begins with the arguments.
  constexpr Declaration(std::string_view name, std::string_view rest) {
    append(name);
    append(rest);
    read();
  }

  [[nodiscard]] constexpr std::string_view text() const { return {text_.data(), size_}; }
  [[nodiscard]] constexpr std::string_view name() const { return view(name_); }
  [[nodiscard]] constexpr std::size_t input_count() const { return inputs_.count; }
  [[nodiscard]] constexpr std::size_t output_count() const { return outputs_.count; }
  [[nodiscard]] constexpr std::size_t dim_count() const { return dim_count_; }
  [[nodiscard]] constexpr std::string_view input_name(std::size_t i) const { return view(inputs_[i].name); }
  [[nodiscard]] constexpr std::string_view output_name(std::size_t i) const { return view(outputs_[i].name); }
  [[nodiscard]] constexpr std::string_view input_type(std::size_t i) const { return dtype_of(inputs_[i]); }
  [[nodiscard]] constexpr std::string_view output_type(std::size_t i) const { return dtype_of(outputs_[i]); }
  [[nodiscard]] constexpr std::string_view dim_name(std::size_t i) const { return view(dims_[i]); }
  [[nodiscard]] constexpr Kind input_kind(std::size_t i) const { return inputs_[i].kind; }
  [[nodiscard]] constexpr bool is_optional(std::size_t i) const { return inputs_[i].optional; }
  // The place of a name, -1 where there is none. Dims are counted by their first appearance.
  [[nodiscard]] constexpr int input(std::string_view wanted) const { return find(inputs_, wanted); }
  [[nodiscard]] constexpr int output(std::string_view wanted) const { return find(outputs_, wanted); }
  [[nodiscard]] constexpr int dim(std::string_view wanted) const {
    for (std::size_t i = 0; i < dim_count_; ++i)
      if (view(dims_[i]) == wanted) return static_cast<int>(i);
    return -1;
  }

  // The declaration of `<name>_backward`. Inputs: `grad_<output>` of every output that no `save_…` flag asks for, those
  // after the first optional; then the inputs, without flags that only ask for an output. Outputs: `grad_<input>` of
  // every tensor that is not of integers, present where the input is.
  [[nodiscard]] constexpr Declaration derivative(const Reads& reads = {}) const;

 private:
  struct Place {
    std::uint16_t begin = 0, size = 0;
  };
  struct Argument {
    Place name, type, whole, condition;  // type: with its dims; condition: the name after `if`
    Kind kind = Kind::tensor;
    bool optional = false;
  };
  struct Arguments {
    std::array<Argument, kMaxArguments> list{};
    std::size_t count = 0;
    constexpr const Argument& operator[](std::size_t i) const { return list[i]; }
  };

  constexpr Declaration() = default;

  static constexpr void require(bool holds, const char* expected) {
    if (!holds) throw std::invalid_argument(expected);
  }
  [[nodiscard]] constexpr std::string_view view(Place p) const { return text().substr(p.begin, p.size); }
  [[nodiscard]] constexpr int find(const Arguments& arguments, std::string_view wanted) const {
    for (std::size_t i = 0; i < arguments.count; ++i)
      if (view(arguments[i].name) == wanted) return static_cast<int>(i);
    return -1;
  }

  // ---- writing ----

  constexpr void append(std::string_view more) {
    require(size_ + more.size() <= kMaxText, "a declaration of at most 2048 characters");
    for (const char c : more) text_[size_++] = c;
  }
  // The next part of a list: separated from what stands before.
  constexpr void append_item(std::string_view prefix, std::string_view more, std::string_view suffix = {}) {
    if (text_[size_ - 1] != '(') append(", ");
    append(prefix);
    append(more);
    append(suffix);
  }

  // ---- reading ----

  static constexpr bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
  static constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static constexpr bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_';
  }
  [[nodiscard]] constexpr char at(std::size_t i) const { return i < size_ ? text_[i] : '\0'; }
  constexpr std::size_t skip(std::size_t i) const {
    while (is_space(at(i))) ++i;
    return i;
  }
  [[nodiscard]] constexpr Place word(std::size_t i) const {
    std::size_t end = i;
    while (is_word(at(end))) ++end;
    require(end > i && !is_digit(at(i)), "a name");
    return place(i, end);
  }
  static constexpr Place place(std::size_t begin, std::size_t end) {
    return {static_cast<std::uint16_t>(begin), static_cast<std::uint16_t>(end - begin)};
  }
  static constexpr std::size_t end_of(Place p) { return std::size_t{p.begin} + p.size; }

  constexpr void add_dim(Place p) {
    if (dim(view(p)) >= 0) return;
    require(dim_count_ < kMaxDims, "at most 32 dims");
    dims_[dim_count_++] = p;
  }
  constexpr void add_dims(std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end;) {
      if (!is_word(at(i))) {
        ++i;
      } else if (is_digit(at(i))) {
        while (is_word(at(i))) ++i;
      } else {
        const Place p = word(i);
        add_dim(p);
        i = end_of(p);
      }
    }
  }

  // name: type, then `?`, a default or a condition; ends before the comma or the parenthesis that follows.
  constexpr Argument argument(std::size_t i) {
    Argument a;
    const std::size_t begin = i = skip(i);
    a.name = word(i);
    i = skip(end_of(a.name));
    require(at(i) == ':', "':' after an argument's name");
    const Place type = word(i = skip(i + 1));
    i = end_of(type);
    if (at(skip(i)) == '[') {
      const std::size_t open = i = skip(i);
      while (at(i) != ']' && at(i) != '\0') ++i;
      require(at(i) == ']', "']'");
      add_dims(open, i);
      a.type = place(type.begin, ++i);
    } else {
      a.type = type;
      require(view(type) == "bool" || view(type) == "int" || view(type) == "float",
              "'[' after a dtype, or one of bool, int, float");
      a.kind = view(type) == "bool" ? Kind::boolean : view(type) == "int" ? Kind::integer : Kind::real;
    }
    std::size_t end = i;
    for (; at(i) != ',' && at(i) != ')'; ++i) {
      require(i < size_, "',' or ')' after an argument");
      if (at(i) == '?') a.optional = true;
      if (!is_space(at(i))) end = i + 1;
      if (at(i) == 'i' && at(i + 1) == 'f' && is_space(at(i - 1)) && is_space(at(i + 2)))
        a.condition = word(skip(i + 2));
    }
    a.whole = place(begin, end);
    return a;
  }
  // '(' arguments ')'; returns where they end.
  constexpr std::size_t list(std::size_t i, Arguments& out) {
    i = skip(i);
    require(at(i) == '(', "'('");
    if (at(skip(i + 1)) == ')') return skip(i + 1) + 1;
    do {
      require(out.count < kMaxArguments, "at most 32 arguments");
      const Argument a = argument(i + 1);
      out.list[out.count++] = a;
      i = skip(end_of(a.whole));
    } while (at(i) == ',');
    require(at(i) == ')', "')'");
    return i + 1;
  }
  constexpr void read() {
    name_ = word(skip(0));
    std::size_t i = skip(list(end_of(name_), inputs_));
    require(at(i) == '-' && at(i + 1) == '>', "'->'");
    i = skip(list(i + 2, outputs_));
    rules_ = place(i, size_);
    if (i == size_) return;
    require(view(word(i)) == "where", "the end of the declaration, or `where`");
    // DIM = EXPRESSION if not ARGUMENT, …
    for (i += 5; i < size_;) {
      const std::size_t begin = i;
      while (i < size_ && view(place(i, past_word(i))) != "if") i = is_word(at(i)) ? past_word(i) : i + 1;
      require(i < size_, "`if not ARGUMENT`");
      add_dims(begin, i);
      while (i < size_ && at(i) != ',' && at(i) != ';') ++i;
    }
  }
  [[nodiscard]] constexpr std::size_t past_word(std::size_t i) const {
    while (is_word(at(i))) ++i;
    return i;
  }

  // Without the dims.
  [[nodiscard]] constexpr std::string_view dtype_of(const Argument& a) const {
    return view(a.type).substr(0, view(a.type).find('['));
  }
  // Integers have no gradient.
  [[nodiscard]] constexpr bool is_differentiable(const Argument& a) const {
    if (a.kind != Kind::tensor) return false;
    const std::string_view type = dtype_of(a);
    return type != "i64" && type != "i32" && type != "u8" && type != "bool";
  }
  // A flag that switches an output on, and does nothing else.
  [[nodiscard]] constexpr bool asks_for_output(const Argument& a) const {
    if (a.kind != Kind::boolean) return false;
    for (std::size_t i = 0; i < outputs_.count; ++i)
      if (view(outputs_[i].condition) == view(a.name)) return true;
    return false;
  }

  std::array<char, kMaxText> text_{};
  std::size_t size_ = 0;
  Place name_, rules_;
  Arguments inputs_, outputs_;
  std::array<Place, kMaxDims> dims_{};
  std::size_t dim_count_ = 0;
};

constexpr Declaration Declaration::derivative(const Reads& reads) const {
  const int saved = output(reads.saved);
  require(reads.saved.empty() || (saved >= 0 && input(reads.after) >= 0), "an output to save, and an input before it");
  require(reads.unused.empty() || input(reads.unused) >= 0, "an input that is not read");
  Declaration d;
  d.append(name());
  d.append("_backward(");
  for (std::size_t i = 0; i < outputs_.count; ++i) {
    if (view(outputs_[i].condition).substr(0, 5) == "save_") continue;
    d.append_item("grad_", view(outputs_[i].name), ": ");
    d.append(view(outputs_[i].type));
    if (i > 0) d.append("?");
  }
  for (std::size_t i = 0; i < inputs_.count; ++i) {
    const std::string_view name = view(inputs_[i].name);
    if (name != reads.unused && !asks_for_output(inputs_[i])) d.append_item("", view(inputs_[i].whole));
    if (saved < 0 || name != reads.after) continue;
    const Argument& o = outputs_[static_cast<std::size_t>(saved)];
    d.append_item(view(o.name), ": ", view(o.type));
    if (o.condition.size > 0) d.append("?");
  }
  d.append(") -> (");
  for (std::size_t i = 0; i < inputs_.count; ++i) {
    if (!is_differentiable(inputs_[i])) continue;
    const std::string_view name = view(inputs_[i].name);
    d.append_item("grad_", name, ": ");
    d.append(view(inputs_[i].type));
    if (!inputs_[i].optional) continue;
    d.append(" if ");
    d.append(name == reads.unused ? reads.saved : name);
  }
  d.append(")");
  if (rules_.size > 0) d.append(" ");
  d.append(view(rules_));
  d.read();
  return d;
}

// The text of a declaration, without the rest of it, which then is not in the program.
template <const Declaration& kDeclaration>
struct DeclarationText {
  static constexpr std::size_t size = kDeclaration.text().size();
  static constexpr std::array<char, size> text = [] {
    std::array<char, size> out{};
    for (std::size_t i = 0; i < size; ++i) out[i] = kDeclaration.text()[i];
    return out;
  }();
  static constexpr std::string_view view{text.data(), size};
  // A part of the declaration's text, as the same part of this one.
  static constexpr std::string_view part(std::string_view of) {
    return view.substr(static_cast<std::size_t>(of.data() - kDeclaration.text().data()), of.size());
  }
};

}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_DECLARATION_HPP_
