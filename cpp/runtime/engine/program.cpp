#include "runtime/engine/program.hpp"

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "ops/builtin.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

namespace {

using Json = nlohmann::json;
constexpr int kOldestFormat = 1, kNewestFormat = 3;  // 2: expressions in place of numbers, steps of slices
                                                     // 3: states that grow
constexpr std::size_t kLongestExpression = 1024;

std::string in_quotes(std::string_view text) {
  return '"' + printable(text) + '"';
}

class Reader {
 public:
  Program read(std::string_view text) {
    const JsonDocument document = parse_json(text, "program.json");
    const Json& root = *document;
    json_object(root, "program.json");
    const std::int64_t format = json_int(json_at(root, "format", "program.json"), "program.json: format");
    if (format < kOldestFormat || format > kNewestFormat) {
      fail(ErrorCode::version, "program.json has format ", format, "; this mambasdk reads ", kOldestFormat, " to ",
           kNewestFormat, "; upgrade mambasdk or export the model again");
    }
    for (const Json& j : list(root, "inputs")) inputs(j);
    program_.first_length = program_.symbols.size();
    for (const Json& j : list(root, "states")) state(j);
    check_lengths();
    preparing_ = true;
    for (const Json& j : list(root, "prepare")) program_.prepare.push_back(node(j, "prepare", program_.prepare.size()));
    preparing_ = false;
    for (const Json& j : list(root, "nodes")) program_.nodes.push_back(node(j, "nodes", program_.nodes.size()));
    for (const Json& j : list(root, "outputs")) output(j);
    return std::move(program_);
  }

 private:
  [[noreturn]] void bad(const auto&... what) const {
    fail(ErrorCode::corrupt, "program.json: ", where_, ": ", what...);
  }

  static const Json& list(const Json& root, const char* key) {
    static const Json empty = Json::array();
    const Json* found = json_find(root, key);
    return found == nullptr ? empty : json_array(*found, std::string("program.json: ") + key);
  }

  const Json& shape(const Json& j) const {
    json_array(j, "program.json: " + where_ + ": shape");
    if (j.size() > kMaxDims) bad("more than ", kMaxDims, " dims");
    return j;
  }

  std::vector<Dimension> dimensions(const Json& j) const {
    std::vector<Dimension> out;
    for (const Json& extent : shape(j)) {
      if (extent.is_string()) {
        out.push_back({extent.get<std::string>(), 0});
      } else {
        out.push_back({"", json_int(extent, where_ + ": shape")});
        if (out.back().size < 0) bad("negative extent ", out.back().size);
      }
    }
    return out;
  }

  // Of a view, where -1 leaves an extent open.
  std::vector<Amount> extents(const Json& j) const {
    std::vector<Amount> out;
    for (const Json& extent : shape(j)) {
      out.push_back(amount(extent, "shape"));
      if (out.back().number < -1) bad("negative extent ", out.back().number);
    }
    return out;
  }

  Amount amount(const Json& j, const char* what) const {
    if (!j.is_string()) return {json_int(j, where_ + ": " + what), {}};
    const std::string text = j.get<std::string>();
    if (text.size() > kLongestExpression) bad(what, " is longer than ", kLongestExpression, " characters");
    if (preparing_) bad("prepare cannot use dim ", in_quotes(text));
    std::size_t at = 0;
    Amount out;
    out.expression =
        read_dim_expression(text, at,
                            {.dim = [&](const std::string& name) { return symbol(name); },
                             .mistake =
                                 [&](std::string_view expected) {
                                   bad(what, ": expected ", expected, " at position ", at, " of ", in_quotes(text));
                                 },
                             .in_program = true});
    if (text.find_first_not_of(" \t", at) != std::string::npos) bad(what, ": ", in_quotes(text), " is no expression");
    return out;
  }

  std::int64_t symbol(const std::string& name) const {
    const auto found = symbol_index_.find(name);
    if (found == symbol_index_.end()) bad("dim ", in_quotes(name), " is in no input");
    return found->second;
  }

  void inputs(const Json& j) {
    where_ = concat("inputs[", program_.inputs.size(), "]");
    TensorSpec spec{json_string_at(j, "name", where_), json_string_at(j, "dtype", where_),
                    dimensions(json_at(j, "shape", where_))};
    for (const Dimension& d : spec.shape) {
      const auto next = static_cast<std::int64_t>(program_.symbols.size());
      if (!d.symbol.empty() && symbol_index_.emplace(d.symbol, next).second) program_.symbols.push_back(d.symbol);
    }
    DType ignored{};
    if (!dtype_from_name(spec.dtype, ignored)) bad("unknown dtype ", in_quotes(spec.dtype));
    define_value(spec.name);
    program_.inputs.push_back(std::move(spec));
  }

  void state(const Json& j) {
    where_ = concat("states[", program_.states.size(), "]");
    StateSpec spec{
        .name = json_string_at(j, "name", where_), .dtype = {}, .shape = dimensions(json_at(j, "shape", where_))};
    const std::string type = json_string_at(j, "dtype", where_);
    if (!dtype_from_name(type, spec.dtype)) bad("unknown dtype ", in_quotes(type));
    if (!state_index_.emplace(spec.name, program_.states.size()).second) bad("state ", in_quotes(spec.name), " twice");
    if (const Json* dim = json_find(j, "grows"); dim != nullptr) growth(j, *dim, spec);
    program_.states.push_back(std::move(spec));
  }

  void growth(const Json& j, const Json& dim, StateSpec& spec) {
    const std::int64_t grows = json_int(dim, where_ + ": grows");
    if (grows < 0 || grows >= static_cast<std::int64_t>(spec.shape.size())) {
      bad("grows is ", grows, ", expected a dim of the ", spec.shape.size());
    }
    spec.grows = static_cast<int>(grows);
    const std::string& name = spec.length_name();
    if (name.empty()) bad("dim ", grows, " grows, so its extent must be a name");
    const auto next = static_cast<std::int64_t>(program_.symbols.size());
    const auto [found, added] = symbol_index_.emplace(name, next);
    if (added) program_.symbols.push_back(name);
    if (found->second < static_cast<std::int64_t>(program_.first_length)) {
      bad("dim ", in_quotes(name), " grows, so it cannot be the extent of an input");
    }
    if (const Json* limit = json_find(j, "limit"); limit != nullptr) spec.limit = json_int(*limit, where_ + ": limit");
    if (spec.limit < 1 || spec.limit > StateSpec::kMostRows) {
      bad("limit is ", spec.limit, ", expected 1 to ", StateSpec::kMostRows);
    }
  }

  // The length of a state that grows is no other extent of a state.
  void check_lengths() {
    for (std::size_t i = 0; i < program_.states.size(); ++i) {
      const StateSpec& spec = program_.states[i];
      where_ = concat("states[", i, "]");
      for (std::size_t d = 0; d < spec.shape.size(); ++d) {
        const auto found = symbol_index_.find(spec.shape[d].symbol);
        if (static_cast<int>(d) == spec.grows || found == symbol_index_.end()) continue;
        if (found->second >= static_cast<std::int64_t>(program_.first_length)) {
          bad("dim ", in_quotes(spec.shape[d].symbol), " is the length of a state that grows");
        }
      }
    }
  }

  std::int32_t define_value(const std::string& name) {
    const auto index = static_cast<std::int32_t>(program_.values.size());
    if (!value_index_.emplace(name, index).second) bad("value ", in_quotes(name), " is defined twice");
    program_.values.push_back(name);
    return index;
  }

  std::int32_t weight_index(const std::string& name) {
    const auto [found, added] = weight_index_.emplace(name, static_cast<std::int32_t>(program_.weights.size()));
    if (added) program_.weights.push_back(name);
    return found->second;
  }

  Slot read_slot(const std::string& text) {
    if (text.size() < 2) bad("reference ", in_quotes(text));
    const std::string name = text.substr(1);
    if (text[0] == '@') return {Slot::Kind::weight, weight_index(name), {}};
    if (preparing_) bad(in_quotes(text), ": prepare may read weights (@) only");
    if (text[0] == '%') {
      const auto found = value_index_.find(name);
      if (found == value_index_.end()) bad("value ", in_quotes(name), " is used before it is defined");
      return {Slot::Kind::value, found->second, {}};
    }
    if (text[0] == '$') {
      const auto found = state_index_.find(name);
      if (found == state_index_.end()) bad("unknown state ", in_quotes(name));
      if (written_.contains(name)) bad("state ", in_quotes(name), " is read after it was written");
      return {Slot::Kind::state, static_cast<std::int32_t>(found->second), {}};
    }
    bad("reference ", in_quotes(text), " starts with none of % @ $");
  }

  Slot write_slot(const std::string& text) {
    if (text.size() < 2) bad("reference ", in_quotes(text));
    const std::string name = text.substr(1);
    if (preparing_) {
      if (text[0] != '@') bad(in_quotes(text), ": prepare may write weights (@) only");
      if (!prepared_.insert(name).second) bad("weight ", in_quotes(name), " is prepared twice");
      return {Slot::Kind::weight, weight_index(name), {}};
    }
    if (text[0] == '%') return {Slot::Kind::value, define_value(name), {}};
    if (text[0] == '$') {
      const auto found = state_index_.find(name);
      if (found == state_index_.end()) bad("unknown state ", in_quotes(name));
      if (program_.states[found->second].is_growing()) {
        bad("state ", in_quotes(name), " grows, so it is appended to and not written");
      }
      if (!written_.insert(name).second) bad("state ", in_quotes(name), " is written twice");
      return {Slot::Kind::state, static_cast<std::int32_t>(found->second), {}};
    }
    bad("an output must be a value (%) or a state ($), not ", in_quotes(text));
  }

  Node node(const Json& j, const char* section, std::size_t index) {
    where_ = concat(section, "[", index, "]");
    json_object(j, where_);
    if (json_find(j, "view") != nullptr) return view(j);
    if (json_find(j, "append") != nullptr) return append(j);
    Node n;
    const std::string name = json_string_at(j, "op", where_);
    n.op = registry().find(name);
    if (n.op == nullptr) {
      fail(ErrorCode::not_found, "program.json: ", where_, ": there is no operation ", in_quotes(name),
           "; the plugin that brings it is not loaded, or the package needs a newer mambasdk");
    }
    const Signature& s = n.op->signature;
    n.inputs.resize(s.inputs.size());
    for (const auto& [key, value] : json_object(json_at(j, "args", where_), where_ + ": args").items()) {
      const int i = s.input_index(key);
      if (i < 0) bad(name, " has no argument ", in_quotes(key), "; it is ", s.text);
      n.inputs[static_cast<std::size_t>(i)] = argument(n, s.inputs[static_cast<std::size_t>(i)], value);
    }
    for (std::size_t i = 0; i < s.inputs.size(); ++i) default_argument(s, s.inputs[i], n.inputs[i]);
    n.outputs.resize(s.outputs.size());
    for (const auto& [key, value] : json_object(json_at(j, "out", where_), where_ + ": out").items()) {
      std::size_t i = 0;
      while (i < s.outputs.size() && s.outputs[i].name != key) ++i;
      if (i == s.outputs.size()) bad(name, " has no output ", in_quotes(key), "; it is ", s.text);
      n.outputs[i] = write_slot(json_string(value, where_ + ": out"));
    }
    return n;
  }

  Slot argument(Node& n, const Argument& a, const Json& value) {
    if (a.kind == Argument::Kind::tensor) return read_slot(json_string(value, where_ + ": " + a.name));
    if (a.kind == Argument::Kind::integer && value.is_string()) {
      n.amounts.push_back(amount(value, a.name.c_str()));
      return {Slot::Kind::amount, static_cast<std::int32_t>(n.amounts.size()) - 1, {}};
    }
    Slot slot{Slot::Kind::scalar, -1, {}};
    const std::string place = where_ + ": " + a.name;
    if (a.kind == Argument::Kind::boolean) {
      slot.scalar.flag = json_bool(value, place);
    } else if (a.kind == Argument::Kind::integer) {
      slot.scalar.integer = json_int(value, place);
    } else {
      if (!value.is_number()) bad(a.name, " must be a number");
      slot.scalar.real = value.get<double>();
    }
    return slot;
  }

  void default_argument(const Signature& s, const Argument& a, Slot& slot) const {
    if (slot.kind != Slot::Kind::none) return;
    if (a.kind == Argument::Kind::tensor) {
      if (!a.optional) bad(s.name, " needs argument ", a.name);
      slot.scalar.tensor = nullptr;
      return;
    }
    if (!a.has_default) bad(s.name, " needs argument ", a.name);
    slot.kind = Slot::Kind::scalar;
    if (a.kind == Argument::Kind::boolean) {
      slot.scalar.flag = a.default_flag;
    } else if (a.kind == Argument::Kind::integer) {
      slot.scalar.integer = a.default_integer;
    } else {
      slot.scalar.real = a.default_real;
    }
  }

  Node view(const Json& j) {
    Node n;
    const std::string kind = json_string_at(j, "view", where_);
    n.inputs = {read_slot(json_string_at(j, "in", where_))};
    if (kind == "slice") {
      n.kind = Node::Kind::slice;
      n.dim = json_int(json_at(j, "dim", where_), where_ + ": dim");
      n.start = amount(json_at(j, "start", where_), "start");
      n.length = amount(json_at(j, "length", where_), "length");
      if (const Json* step = json_find(j, "step"); step != nullptr) n.step = json_int(*step, where_ + ": step");
      if (n.step < 1) bad("step is ", n.step, ", expected at least 1");
    } else if (kind == "reshape" || kind == "expand") {
      n.kind = kind == "reshape" ? Node::Kind::reshape : Node::Kind::expand;
      n.shape = extents(json_at(j, "shape", where_));
    } else if (kind == "permute") {
      n.kind = Node::Kind::permute;
      for (const Json& d : json_array(json_at(j, "dims", where_), where_ + ": dims")) {
        n.dims.push_back(json_int(d, where_ + ": dims"));
      }
    } else {
      bad("unknown view ", in_quotes(kind), "; slice, reshape, permute and expand are known");
    }
    n.outputs = {write_slot(json_string_at(j, "out", where_))};
    if (n.outputs[0].kind == Slot::Kind::state) bad("a view cannot be a state");
    return n;
  }

  Node append(const Json& j) {
    if (preparing_) bad("prepare cannot append to a state");
    Node n;
    n.kind = Node::Kind::append;
    n.op = registry().find("copy");
    if (n.op == nullptr) fail(ErrorCode::internal, "there is no operation copy");
    n.inputs = {read_slot(json_string_at(j, "in", where_))};
    const std::string text = json_string_at(j, "append", where_);
    const auto found = text.starts_with('$') ? state_index_.find(text.substr(1)) : state_index_.end();
    if (found == state_index_.end()) bad("unknown state ", in_quotes(text));
    if (!program_.states[found->second].is_growing()) bad("state ", in_quotes(text.substr(1)), " does not grow");
    if (!written_.insert(found->first).second) bad("state ", in_quotes(found->first), " is written twice");
    n.outputs = {{Slot::Kind::state, static_cast<std::int32_t>(found->second), {}}, {}};
    if (json_find(j, "out") != nullptr) {
      const std::string out = json_string_at(j, "out", where_);
      n.outputs[1] = write_slot(out);
      if (n.outputs[1].kind != Slot::Kind::value) bad("all rows are a value (%), not ", in_quotes(out));
    }
    return n;
  }

  void output(const Json& j) {
    where_ = concat("outputs[", program_.outputs.size(), "]");
    const std::string name = json_string_at(j, "name", where_);
    const std::string text = json_string_at(j, "value", where_);
    if (text.empty() || text[0] != '%') bad("an output is a value (%), not ", in_quotes(text));
    if (!program_.output_index.emplace(name, program_.outputs.size()).second) {
      bad("output ", in_quotes(name), " twice");
    }
    program_.outputs.emplace_back(name, read_slot(text).index);
  }

  Program program_;
  std::string where_;
  bool preparing_ = false;
  // Ordered, since the names come from a file: one cannot make their hashes collide.
  std::map<std::string, std::int32_t> value_index_;
  std::map<std::string, std::size_t> state_index_;
  std::map<std::string, std::int64_t> symbol_index_;
  std::map<std::string, std::int32_t> weight_index_;
  std::set<std::string> written_, prepared_;
};

}  // namespace

Program Program::parse(std::string_view text) {
  return Reader().read(text);
}

}  // namespace mambasdk::runtime
