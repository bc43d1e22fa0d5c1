// From syntax tree to table: Thompson's construction, then the subset construction over ordered lists of threads, which
// keeps the preference among alternatives that backtracking engines have.
#include "runtime/text/pattern.hpp"

#include <algorithm>
#include <map>

#include "core/error.hpp"
#include "runtime/text/pattern_syntax.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

constexpr char32_t kPlane = 0x10000;  // end of the Basic Multilingual Plane

constexpr std::size_t kMaxInstructions = 4000;
constexpr std::size_t kMaxStates = 4000;
constexpr std::size_t kMaxSets = 64;
constexpr std::size_t kMaxWork = 20'000'000;  // steps while the table is built

}  // namespace

class PatternCompiler {
 public:
  explicit PatternCompiler(const PatternNode& root) {
    const std::size_t match = emit({});
    start_ = build(root, match);
    make_symbols();
    make_table();
  }

  Pattern take() { return std::move(pattern_); }

 private:
  struct Instruction {
    enum class Op { character, split, look_ahead, match } op = Op::match;
    std::size_t set = 0;        // character, look_ahead
    bool negated = false;       // look_ahead
    std::size_t next = 0;       // where to go on
    std::size_t otherwise = 0;  // split: the less preferred way
  };
  using Op = Instruction::Op;
  using Threads = std::vector<std::size_t>;  // instructions, most preferred first

  [[noreturn]] static void too_large() {
    fail(ErrorCode::unsupported, "tokenizer pattern: its table would be too large for the native tokenizer");
  }

  void work(std::size_t steps) {
    work_ += steps;
    if (work_ > kMaxWork) too_large();
  }

  std::size_t emit(Instruction instruction) {
    if (program_.size() >= kMaxInstructions) too_large();
    program_.push_back(instruction);
    return program_.size() - 1;
  }

  std::size_t set_index(const CharacterSet& set) {
    const auto place = std::find(sets_.begin(), sets_.end(), set);
    if (place != sets_.end()) return static_cast<std::size_t>(place - sets_.begin());
    if (sets_.size() >= kMaxSets) too_large();
    sets_.push_back(set);
    return sets_.size() - 1;
  }

  std::size_t emit_split(std::size_t preferred, std::size_t otherwise) {
    return emit({.op = Op::split, .set = 0, .negated = false, .next = preferred, .otherwise = otherwise});
  }
  std::size_t emit_look_ahead(const CharacterSet& set, bool negated, std::size_t next) {
    return emit({.op = Op::look_ahead, .set = set_index(set), .negated = negated, .next = next, .otherwise = 0});
  }

  // Instructions are built back to front: `next` is what follows the node. Returns the node's first instruction.
  std::size_t build(const PatternNode& node, std::size_t next) {
    using Kind = PatternNode::Kind;
    work(1);  // repetitions of nothing emit nothing
    switch (node.kind) {
      case Kind::character:
        return emit({.op = Op::character, .set = set_index(node.set), .negated = false, .next = next, .otherwise = 0});
      case Kind::look_ahead:
        return emit_look_ahead(node.set, node.negated, next);
      case Kind::sequence:
        for (auto child = node.children.rbegin(); child != node.children.rend(); ++child) next = build(**child, next);
        return next;
      case Kind::alternatives: {
        std::size_t entry = build(*node.children.back(), next);
        for (auto child = node.children.rbegin() + 1; child != node.children.rend(); ++child) {
          const std::size_t preferred = build(**child, next);
          entry = emit_split(preferred, entry);
        }
        return entry;
      }
      case Kind::repeat:
        return build_repeat(node, next);
    }
    return next;
  }

  std::size_t build_repeat(const PatternNode& node, std::size_t next) {
    const PatternNode& child = *node.children[0];
    const bool lazy = node.mode == PatternNode::Mode::lazy;
    const bool possessive = node.mode == PatternNode::Mode::possessive;
    // A possessive loop over one set stops only where that set ends, which look-ahead can say.
    const std::size_t leave = possessive ? emit_look_ahead(child.set, true, next) : next;
    std::size_t entry = next;
    if (node.max == PatternNode::kUnbounded) {
      const std::size_t loop = emit_split(0, 0);
      const std::size_t body = build(child, loop);
      program_[loop].next = lazy ? leave : body;
      program_[loop].otherwise = lazy ? body : leave;
      entry = loop;
    } else {
      for (int i = node.min; i < node.max; ++i) {
        const std::size_t body = build(child, entry);
        entry = lazy ? emit_split(leave, body) : emit_split(body, leave);
      }
    }
    for (int i = 0; i < node.min; ++i) entry = build(child, entry);
    return entry;
  }

  // Code points that no set tells apart share a symbol.
  void make_symbols() {
    std::vector<char32_t> places = property_boundaries();
    for (const CharacterSet& set : sets_) {
      for (const SetItem& item : set.items) {
        if (item.kind == SetItem::Kind::range) places.insert(places.end(), {item.first, item.last + 1});
      }
    }
    places.push_back(kPlane);
    std::sort(places.begin(), places.end());
    places.erase(std::unique(places.begin(), places.end()), places.end());
    std::size_t items = 1;
    for (const CharacterSet& set : sets_) items += set.items.size();
    work(places.size() * items / 8);                // simpler steps than those of threads
    std::map<std::uint64_t, std::uint8_t> symbols;  // by membership in the sets
    for (std::size_t i = 0; i + 1 < places.size(); ++i) {
      std::uint64_t membership = 0;
      for (std::size_t s = 0; s < sets_.size(); ++s) membership |= std::uint64_t{sets_[s].contains(places[i])} << s;
      const auto [place, added] = symbols.emplace(membership, static_cast<std::uint8_t>(symbols.size()));
      if (added) memberships_.push_back(membership);
      if (symbols.size() > 250) too_large();
      if (places[i] < kPlane) {
        pattern_.plane_symbols_.resize(places[i + 1], place->second);
        continue;
      }
      if (!pattern_.range_symbols_.empty() && pattern_.range_symbols_.back() == place->second) continue;
      pattern_.starts_.push_back(places[i]);
      pattern_.range_symbols_.push_back(place->second);
    }
    pattern_.symbols_ = memberships_.size() + 1;
  }

  [[nodiscard]] bool contains(std::size_t set, std::size_t symbol) const {
    return symbol < memberships_.size() && (memberships_[symbol] >> set & 1) != 0;  // the end is in no set
  }

  // Follows the threads over one symbol. Returns whether the text before the symbol is a match.
  bool step(const Threads& threads, std::size_t symbol, Threads& next) {
    next.clear();
    visited_.assign(program_.size(), false);
    queued_.assign(program_.size(), false);
    for (const std::size_t thread : threads) {
      stack_.assign(1, thread);
      while (!stack_.empty()) {
        work(1);
        const std::size_t at = stack_.back();
        stack_.pop_back();
        if (visited_[at]) continue;
        visited_[at] = true;
        const Instruction& instruction = program_[at];
        switch (instruction.op) {
          case Op::match:
            return true;  // less preferred threads end here
          case Op::character:
            if (contains(instruction.set, symbol) && !queued_[instruction.next]) {
              queued_[instruction.next] = true;
              next.push_back(instruction.next);
            }
            break;
          case Op::look_ahead:
            if (contains(instruction.set, symbol) != instruction.negated) stack_.push_back(instruction.next);
            break;
          case Op::split:
            stack_.push_back(instruction.otherwise);
            stack_.push_back(instruction.next);
            break;
        }
      }
    }
    return false;
  }

  void make_table() {
    std::map<Threads, std::size_t> numbers;
    std::vector<Threads> states = {{}, {start_}};  // 0 is dead
    numbers.emplace(states[0], 0);
    numbers.emplace(states[1], 1);
    Threads next;
    for (std::size_t state = 0; state < states.size(); ++state) {
      const Threads threads = states[state];
      for (std::size_t symbol = 0; symbol < pattern_.symbols_; ++symbol) {
        const bool match = step(threads, symbol, next);
        if (match && state == 1) {
          fail(ErrorCode::unsupported,
               "tokenizer pattern: it matches the empty text, which the native tokenizer does "
               "not support");
        }
        const auto [place, added] = numbers.emplace(next, states.size());
        if (added) states.push_back(next);
        if (states.size() > kMaxStates) too_large();
        pattern_.transitions_.push_back(static_cast<std::uint16_t>(place->second * 2 + (match ? 1 : 0)));
      }
    }
  }

  std::vector<Instruction> program_;
  std::size_t start_ = 0;
  std::vector<CharacterSet> sets_;
  std::vector<std::uint64_t> memberships_;  // by symbol: the sets that hold it
  std::size_t work_ = 0;
  std::vector<bool> visited_, queued_;
  Threads stack_;
  Pattern pattern_;
};

Pattern Pattern::compile(std::string_view pattern) {
  return PatternCompiler(*parse_pattern(pattern)).take();
}

Pattern Pattern::literal(std::string_view text) {
  if (text.empty() || find_invalid_utf8(text) != npos) {
    fail(ErrorCode::unsupported, "tokenizer pattern: an empty literal is not supported by the native tokenizer");
  }
  PatternNode sequence;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    auto node = std::make_unique<PatternNode>();
    node->kind = PatternNode::Kind::character;
    node->set.items.push_back({.kind = SetItem::Kind::range, .negated = false, .first = c, .last = c, .categories = 0});
    sequence.children.push_back(std::move(node));
  }
  return PatternCompiler(sequence).take();
}

std::size_t Pattern::match(std::string_view text, std::size_t at) const {
  return PatternScan(*this, text).match(at);
}

// Of the character at `at`, which is not the end; moves past it.
inline std::size_t PatternScan::symbol_at(std::size_t& at) const {
  const auto byte = static_cast<unsigned char>(text_[at]);
  if (byte < 0x80) {
    ++at;
    return pattern_->plane_symbols_[byte];
  }
  const char32_t c = next_code_point(text_, at);
  if (c < kPlane) return pattern_->plane_symbols_[c];
  const auto after = std::upper_bound(pattern_->starts_.begin(), pattern_->starts_.end(), c);
  return pattern_->range_symbols_[static_cast<std::size_t>(after - pattern_->starts_.begin()) - 1];
}

std::size_t PatternScan::match(std::size_t at) {
  std::size_t end = Pattern::npos;
  std::size_t state = 1;
  const std::uint16_t* const transitions = pattern_->transitions_.data();
  const std::size_t symbols = pattern_->symbols_;
  const std::size_t plain = text_.size() - at > kPlainBytes ? at + kPlainBytes : text_.size();
  while (at < plain) {
    const std::size_t here = at;
    const std::uint16_t entry = transitions[state * symbols + symbol_at(at)];
    if ((entry & 1) != 0) end = here;
    state = entry >> 1;
    if (state == 0) return end;
  }
  return walk_far(at, state, end);
}

std::size_t PatternScan::walk_far(std::size_t at, std::size_t state, std::size_t end) {
  const std::size_t symbols = pattern_->symbols_;
  const std::size_t states = pattern_->transitions_.size() / symbols;
  std::size_t row = (at + kNoteBytes - 1) / kNoteBytes;  // notes stand at the first character from row * kNoteBytes on
  passed_.clear();
  while (true) {
    const std::size_t here = at;
    if (here >= row * kNoteBytes && here < text_.size()) {
      const std::size_t note = row++ * states + state;
      if (in_vain(note)) break;
      passed_.push_back(note);
    }
    const std::size_t symbol = at < text_.size() ? symbol_at(at) : symbols - 1;
    const std::uint16_t entry = pattern_->transitions_[state * symbols + symbol];
    if ((entry & 1) != 0) {
      end = here;
      passed_.clear();
    }
    state = entry >> 1;
    if (state == 0) break;
  }
  keep_notes();
  return end;
}

void PatternScan::keep_notes() {
  if (passed_.empty()) return;
  const std::size_t states = pattern_->transitions_.size() / pattern_->symbols_;
  if (vain_.empty()) vain_.resize((text_.size() / kNoteBytes + 1) * states / 64 + 1);
  for (const std::size_t note : passed_) vain_[note / 64] |= std::uint64_t{1} << (note % 64);
}

}  // namespace mambasdk::runtime
