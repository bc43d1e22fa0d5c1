// Recursive-descent parser of patterns. What it does not understand it names in the error.
#include "runtime/text/pattern_syntax.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "core/error.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

using Node = PatternNode;
using NodePtr = std::unique_ptr<PatternNode>;

constexpr int kMaxGroupDepth = 50;  // nested groups
constexpr int kMaxRepeat = 255;     // {n,m}
constexpr int kMaxStacked = 4;      // quantifiers on one atom
constexpr std::size_t kMaxPattern = 10'000;

SetItem range_item(char32_t first, char32_t last) {
  return {.kind = SetItem::Kind::range, .negated = false, .first = first, .last = last, .categories = 0};
}

// Simple case folding of ASCII letters; two of them have a partner beyond ASCII.
void add_case_variants(std::vector<SetItem>& items) {
  const std::size_t size = items.size();
  for (std::size_t i = 0; i < size; ++i) {
    for (char32_t c = 'a'; c <= 'z'; ++c) {
      const char32_t upper = c - 'a' + 'A';
      const auto covers = [&](char32_t x) { return x >= items[i].first && x <= items[i].last; };
      if (!covers(c) && !covers(upper)) continue;
      items.push_back(range_item(c, c));
      items.push_back(range_item(upper, upper));
      if (c == 's') items.push_back(range_item(0x17F, 0x17F));    // long s
      if (c == 'k') items.push_back(range_item(0x212A, 0x212A));  // Kelvin sign
    }
  }
}

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  NodePtr parse() {
    NodePtr node = alternatives(0);
    if (!at_end()) invalid("unmatched ')'");
    return node;
  }

 private:
  [[noreturn]] void unsupported(std::string_view construct) const {
    fail(ErrorCode::unsupported, "tokenizer pattern at byte ", at_, ": ", construct,
         " is not supported by the native tokenizer");
  }
  [[noreturn]] void invalid(std::string_view reason) const {
    fail(ErrorCode::corrupt, "tokenizer pattern at byte ", at_, ": ", reason);
  }

  [[nodiscard]] bool at_end() const { return at_ == pattern_.size(); }
  [[nodiscard]] bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  bool take(std::string_view text) {
    if (!next_is(text)) return false;
    at_ += text.size();
    return true;
  }
  char32_t take_character() {
    if (at_end()) invalid("the pattern ends too early");
    return next_code_point(pattern_, at_);
  }

  static NodePtr make(Node::Kind kind) {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    return node;
  }

  NodePtr character(CharacterSet set) {
    if (ignore_case_) {
      for (const SetItem& item : set.items) {
        if (item.kind != SetItem::Kind::range || item.last >= 0x80) {
          unsupported("(?i:) with anything but ASCII characters");
        }
      }
      add_case_variants(set.items);
    }
    NodePtr node = make(Node::Kind::character);
    node->set = std::move(set);
    return node;
  }

  NodePtr alternatives(int depth) {
    if (depth > kMaxGroupDepth) unsupported("deeper nesting of groups");
    NodePtr node = make(Node::Kind::alternatives);
    do node->children.push_back(sequence(depth));
    while (take("|"));
    if (node->children.size() == 1) return std::move(node->children[0]);
    return node;
  }

  NodePtr sequence(int depth) {
    NodePtr node = make(Node::Kind::sequence);
    char32_t previous = 0;  // the literal before, for case-insensitive pairs that are one character elsewhere
    while (!at_end() && !next_is("|") && !next_is(")")) {
      const std::size_t begin = at_;
      NodePtr item = quantified(atom(depth));
      if (ignore_case_) {
        const std::string_view text = pattern_.substr(begin, at_ - begin);
        const char32_t c = text.size() == 1 ? static_cast<unsigned char>(text[0]) | 0x20u : 0;
        const bool ligature =
            (previous == 's' && (c == 's' || c == 't')) || (previous == 'f' && (c == 'f' || c == 'i' || c == 'l'));
        if (ligature) unsupported("(?i:) with letters that also match a ligature");
        previous = c;
      }
      node->children.push_back(std::move(item));
    }
    return node;
  }

  NodePtr group(int depth) {
    bool look_ahead = false, negated = false;
    const bool outer_case = ignore_case_;
    if (take("?=") || take("?!")) {
      look_ahead = true;
      negated = pattern_[at_ - 1] == '!';
    } else if (take("?i:")) {
      ignore_case_ = true;
    } else if (next_is("?<=") || next_is("?<!")) {
      unsupported("look-behind (?<=..), (?<!..)");
    } else if (next_is("?>")) {
      unsupported("an atomic group (?>..)");
    } else if (next_is("?") && !next_is("?:")) {
      unsupported(concat("the group \"(", pattern_.substr(at_, 3), "\""));
    } else {
      take("?:");
    }
    NodePtr inside = alternatives(depth + 1);
    if (!take(")")) invalid("')' is missing");
    ignore_case_ = outer_case;
    if (!look_ahead) return inside;
    const Node* only = inside.get();
    while (only->kind == Node::Kind::sequence && only->children.size() == 1) only = only->children[0].get();
    if (only->kind != Node::Kind::character) unsupported("look-ahead at more than one character");
    NodePtr node = make(Node::Kind::look_ahead);
    node->set = only->set;
    node->negated = negated;
    return node;
  }

  NodePtr atom(int depth) {
    if (take("(")) return group(depth);
    if (take("[")) return character(set());
    if (take("\\")) return character({{escape()}, false});
    if (take(".")) return character({{range_item('\n', '\n')}, true});
    if (next_is("^") || next_is("$")) unsupported("an anchor (^ or $)");
    if (next_is("*") || next_is("+") || next_is("?")) invalid("a quantifier follows nothing");
    const char32_t c = take_character();
    return character({{range_item(c, c)}, false});
  }

  // {n}, {n,}, {,m}, {n,m}; anything else is a literal brace.
  std::optional<std::pair<int, int>> interval() {
    const std::size_t begin = at_;
    const auto number = [&]() -> std::optional<int> {
      int value = 0;
      bool any = false;
      for (; !at_end() && pattern_[at_] >= '0' && pattern_[at_] <= '9'; ++at_, any = true) {
        value = std::min(value * 10 + (pattern_[at_] - '0'), 100'000);
      }
      return any ? std::optional<int>(value) : std::nullopt;
    };
    take("{");
    const std::optional<int> min = number();
    std::optional<int> max = min;
    bool comma = false;
    if (take(",")) {
      comma = true;
      max = number();
    }
    if (!take("}") || (!min && !max)) {
      at_ = begin;
      return std::nullopt;
    }
    if (min.value_or(0) > kMaxRepeat || max.value_or(0) > kMaxRepeat) unsupported("a repetition of more than 255");
    if (min && max && *min > *max) unsupported("a repetition {n,m} with n > m");
    return std::pair(min.value_or(0), max ? *max : (comma ? Node::kUnbounded : 0));
  }

  NodePtr quantified(NodePtr item) {
    for (int count = 0; !at_end(); ++count) {
      if (count > kMaxStacked) unsupported("a pile of quantifiers");
      int min = 0, max = 0;
      bool braces = false;
      if (take("?")) {
        max = 1;
      } else if (take("*")) {
        max = Node::kUnbounded;
      } else if (take("+")) {
        min = 1;
        max = Node::kUnbounded;
      } else if (next_is("{")) {
        const auto bounds = interval();
        if (!bounds) break;
        std::tie(min, max) = *bounds;
        braces = true;
      } else {
        break;
      }
      if (item->kind == Node::Kind::look_ahead) unsupported("a quantifier on look-ahead");
      NodePtr node = make(Node::Kind::repeat);
      node->min = min;
      node->max = max;
      if (take("?")) {
        node->mode = Node::Mode::lazy;
        if (braces) unsupported("a lazy {n,m}");
      } else if (!braces && take("+")) {  // {n,m}+ repeats the interval in this syntax
        node->mode = Node::Mode::possessive;
        if (item->kind != Node::Kind::character) unsupported("a possessive quantifier on a group");
      }
      node->children.push_back(std::move(item));
      item = std::move(node);
    }
    return item;
  }

  CharacterSet set() {
    CharacterSet result;
    result.negated = take("^");
    bool first = true;
    while (first || !next_is("]")) {
      if (at_end()) invalid("']' is missing");
      if (next_is("[")) unsupported("a set inside a set");
      if (next_is("&&")) unsupported("an intersection of sets (&&)");
      SetItem item;
      if (take("\\")) {
        item = escape();
      } else {
        const char32_t c = take_character();
        item = range_item(c, c);
      }
      const bool single = item.kind == SetItem::Kind::range && !item.negated;
      if (single && next_is("-") && !next_is("-]")) {
        take("-");
        if (next_is("[")) unsupported("a set inside a set");
        const SetItem end = take("\\") ? escape() : literal_item();
        if (end.kind != SetItem::Kind::range || end.negated) unsupported("a range that ends in a class");
        if (end.last < item.first) invalid("a range runs backwards");
        item.last = end.last;
      }
      result.items.push_back(item);
      first = false;
    }
    take("]");
    return result;
  }

  SetItem literal_item() {
    const char32_t c = take_character();
    return range_item(c, c);
  }

  char32_t hex(std::size_t min_digits, std::size_t max_digits) {
    char32_t value = 0;
    std::size_t digits = 0;
    for (; digits < max_digits && !at_end(); ++digits, ++at_) {
      const char c = pattern_[at_];
      if (c >= '0' && c <= '9') {
        value = value * 16 + static_cast<char32_t>(c - '0');
      } else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) {
        value = value * 16 + static_cast<char32_t>((c | 0x20) - 'a' + 10);
      } else {
        break;
      }
    }
    if (digits < min_digits || value > 0x10FFFF) invalid("a hexadecimal escape is malformed");
    return value;
  }

  // What follows a backslash, inside a set or outside.
  SetItem escape() {
    const char32_t c = take_character();
    const auto of_categories = [](CategorySet set, bool negated) {
      return SetItem{.kind = SetItem::Kind::categories, .negated = negated, .first = 0, .last = 0, .categories = set};
    };
    const auto of_kind = [](SetItem::Kind kind, bool negated) {
      return SetItem{.kind = kind, .negated = negated, .first = 0, .last = 0, .categories = 0};
    };
    switch (c) {
      case 's':
      case 'S':
        return of_kind(SetItem::Kind::space, c == 'S');
      case 'w':
      case 'W':
        return of_kind(SetItem::Kind::word, c == 'W');
      case 'd':
      case 'D':
        return of_categories(category_bit(Category::Nd), c == 'D');
      case 'p':
      case 'P': {
        bool negated = c == 'P';
        const CategorySet set = property(negated);
        return of_categories(set, negated);
      }
      case 'n':
        return range_item('\n', '\n');
      case 'r':
        return range_item('\r', '\r');
      case 't':
        return range_item('\t', '\t');
      case 'f':
        return range_item('\f', '\f');
      case 'v':
        return range_item('\v', '\v');
      case 'u': {
        const char32_t code = hex(4, 4);
        return range_item(code, code);
      }
      case 'x': {
        const bool braces = take("{");
        const char32_t code = braces ? hex(1, 8) : hex(1, 2);
        if (braces && !take("}")) invalid("'}' is missing");
        if (!braces && code >= 0x80) unsupported("a byte escape \\x80 to \\xff");
        return range_item(code, code);
      }
      default:
        break;
    }
    const bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (alphanumeric) unsupported(concat("\"\\", static_cast<char>(c), "\""));
    return range_item(c, c);
  }

  CategorySet property(bool& negated) {
    if (!take("{")) unsupported("\\p without braces");
    if (take("^")) negated = !negated;
    const std::size_t end = pattern_.find('}', at_);
    if (end == std::string_view::npos) invalid("'}' is missing");
    const std::string_view name = pattern_.substr(at_, end - at_);
    static constexpr std::array<std::pair<std::string_view, CategorySet>, 14> groups = {
        {{"L", kLetters},
         {"Letter", kLetters},
         {"M", kMarks},
         {"Mark", kMarks},
         {"N", kNumbers},
         {"Number", kNumbers},
         {"P", kPunctuation},
         {"S", kSymbols},
         {"Symbol", kSymbols},
         {"Z", kSeparators},
         {"Separator", kSeparators},
         {"C", kOthers},
         {"Other", kOthers},
         {"Punctuation", kPunctuation}}};
    static constexpr std::array<std::string_view, kCategoryCount> names = {
        "Cn", "Cc", "Cf", "Co", "Cs", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl",
        "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp"};
    CategorySet set = 0;
    for (const auto& [group, members] : groups) {
      if (group == name) set = members;
    }
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (names[i] == name) set = 1u << i;
    }
    if (set == 0) unsupported("a \\p{..} that is no general category");
    at_ = end + 1;
    return set;
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  bool ignore_case_ = false;
};

}  // namespace

bool CharacterSet::contains(char32_t c) const {
  bool found = false;
  for (const SetItem& item : items) {
    bool inside = false;
    switch (item.kind) {
      case SetItem::Kind::range:
        inside = c >= item.first && c <= item.last;
        break;
      case SetItem::Kind::categories:
        inside = is_in(c, item.categories);
        break;
      case SetItem::Kind::space:
        inside = is_white_space(c);
        break;
      case SetItem::Kind::word:
        inside = is_word(c);
        break;
    }
    found = found || inside != item.negated;
  }
  return found != negated;
}

NodePtr parse_pattern(std::string_view pattern) {
  if (pattern.size() > kMaxPattern) {
    fail(ErrorCode::unsupported, "tokenizer pattern: ", pattern.size(), " bytes; at most ", kMaxPattern, " are read");
  }
  if (find_invalid_utf8(pattern) != std::string_view::npos) {
    fail(ErrorCode::corrupt, "tokenizer pattern: not valid UTF-8");
  }
  return Parser(pattern).parse();
}

}  // namespace mambasdk::runtime
