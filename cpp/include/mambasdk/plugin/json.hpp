// JSON from files and callers that nobody vouches for: limits on size, depth and number of values, no key twice, and
// running out of memory is std::bad_alloc, never the end of the process. Needs nlohmann/json.hpp
// (mambasdk_add_plugin(JSON)) and nothing else of the SDK, so the library itself reads with it too.
#ifndef MAMBASDK_PLUGIN_JSON_HPP_
#define MAMBASDK_PLUGIN_JSON_HPP_

#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mambasdk {
inline namespace abi1 {
namespace plugin {

struct JsonLimits {
  std::size_t max_bytes = std::size_t{64} << 20;
  int max_depth = 64;
  std::size_t max_values = std::size_t{8} << 20;  // containers and scalars; each takes some 100 bytes at worst
};

// A value that takes itself apart without asking for memory: nlohmann's destructor gathers the children of a container
// in a vector, and an allocation that fails there ends the process.
class JsonDocument {
 public:
  JsonDocument() = default;
  explicit JsonDocument(nlohmann::json value) noexcept : value_(std::move(value)) {}
  JsonDocument(JsonDocument&& other) noexcept : value_(std::move(other.value_)) {}
  JsonDocument& operator=(JsonDocument&& other) noexcept {
    if (this == &other) return *this;
    dismantle(value_);
    value_ = std::move(other.value_);
    return *this;
  }
  JsonDocument(const JsonDocument&) = delete;
  JsonDocument& operator=(const JsonDocument&) = delete;
  ~JsonDocument() { dismantle(value_); }

  [[nodiscard]] const nlohmann::json& operator*() const& noexcept { return value_; }
  [[nodiscard]] nlohmann::json& operator*() & noexcept { return value_; }
  [[nodiscard]] const nlohmann::json* operator->() const noexcept { return &value_; }
  operator const nlohmann::json&() const& noexcept { return value_; }  // NOLINT: a document is a value
  operator nlohmann::json() && noexcept { return std::move(value_); }  // NOLINT: no longer taken apart by this

  // Empties `value` from the leaves up. Its depth is that of what was read: JsonLimits::max_depth at most.
  static void dismantle(nlohmann::json& value) noexcept {
    if (auto* array = value.get_ptr<nlohmann::json::array_t*>()) {
      for (nlohmann::json& item : *array) dismantle(item);
      array->clear();
    } else if (auto* object = value.get_ptr<nlohmann::json::object_t*>()) {
      for (auto& member : *object) dismantle(member.second);
      object->clear();
    }
  }

 private:
  nlohmann::json value_;
};

// What is wrong with a text, at which of its bytes.
struct JsonFault {
  std::size_t at;
  std::string reason;
};

inline constexpr std::size_t kMaxQuoted = 80;

// `text` in printable ASCII, cut after kMaxQuoted characters: for quoting what is not trusted in an error.
[[nodiscard]] inline std::string quoted(std::string_view text) {
  std::string shown;
  for (const char c : text.substr(0, kMaxQuoted)) shown += (c >= ' ' && c <= '~') ? c : '?';
  if (text.size() > kMaxQuoted) shown += "...";
  return shown;
}

// A value for an error: a number, a word or a string, cut, or a few numbers; of any other container its kind and size.
[[nodiscard]] inline std::string quoted(const nlohmann::json& value) {
  constexpr std::size_t kFew = 4;
  const auto is_number = [](const nlohmann::json& item) { return item.is_number(); };
  if (value.is_array() && (value.size() > kFew || !std::all_of(value.begin(), value.end(), is_number))) {
    return "a list of " + std::to_string(value.size());
  }
  if (value.is_object()) return "an object of " + std::to_string(value.size());
  if (const auto* text = value.get_ptr<const std::string*>()) return "\"" + quoted(std::string_view(*text)) + "\"";
  return quoted(std::string_view(value.dump()));
}

namespace detail {

// The lexer's position, shared by the copies it makes of its input iterator, so that every fault has an offset.
struct JsonCursor {
  const char* begin;
  const char* at;
};

class JsonIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  JsonIterator(JsonCursor* cursor, const char* end) : cursor_(cursor), end_(end) {}
  reference operator*() const { return *cursor_->at; }
  JsonIterator& operator++() {
    ++cursor_->at;
    return *this;
  }
  // Only ever compared with the end.
  bool operator==(const JsonIterator&) const { return cursor_->at == end_; }
  bool operator!=(const JsonIterator&) const { return cursor_->at != end_; }

 private:
  JsonCursor* cursor_;
  const char* end_;
};

// Builds the document under the limits; nlohmann's parser, which calls it, does not recurse.
class JsonBuilder : public nlohmann::json_sax<nlohmann::json> {
  using json = nlohmann::json;

 public:
  JsonBuilder(const JsonCursor& cursor, const JsonLimits& limits) : cursor_(cursor), limits_(limits) {}

  [[nodiscard]] JsonDocument take() { return std::move(root_); }
  [[nodiscard]] std::optional<JsonFault> fault() { return std::move(fault_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return refuse("binary data"); }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto [place, added] = stack_.back()->get_ref<json::object_t&>().emplace(std::move(name), nullptr);
    if (!added) return refuse("duplicate key " + quoted(std::string_view(place->first)));
    member_ = &place->second;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    const char* reason = std::strstr(error.what(), ": ");
    return refuse(quoted(std::string_view(reason != nullptr ? reason + 2 : error.what())));
  }

 private:
  bool refuse(std::string reason) {
    fault_ = {static_cast<std::size_t>(cursor_.at - cursor_.begin), std::move(reason)};
    return false;
  }

  template <class Value>
  json* add(Value&& value) {
    if (++values_ > limits_.max_values) {
      refuse("more than " + std::to_string(limits_.max_values) + " values");
      return nullptr;
    }
    if (stack_.empty()) {
      *root_ = std::forward<Value>(value);
      return &*root_;
    }
    if (stack_.back()->is_array()) {
      return &stack_.back()->get_ref<json::array_t&>().emplace_back(std::forward<Value>(value));
    }
    *member_ = std::forward<Value>(value);
    return member_;
  }

  template <class Value>
  bool put(Value&& value) {
    return add(std::forward<Value>(value)) != nullptr;
  }

  bool open(json container) {
    if (stack_.size() >= static_cast<std::size_t>(limits_.max_depth)) {
      return refuse("nested deeper than " + std::to_string(limits_.max_depth) + " levels");
    }
    json* added = add(std::move(container));
    if (added != nullptr) stack_.push_back(added);
    return added != nullptr;
  }

  bool close() {
    stack_.pop_back();
    return true;
  }

  const JsonCursor& cursor_;
  JsonLimits limits_;
  JsonDocument root_;
  std::vector<json*> stack_;  // open containers; a container does not move while one inside it is open
  json* member_ = nullptr;
  std::size_t values_ = 0;
  std::optional<JsonFault> fault_;
};

}  // namespace detail

// The document, or what is wrong with the text. Throws nothing but std::bad_alloc.
[[nodiscard]] inline std::optional<JsonFault> read_json(std::string_view text, const JsonLimits& limits,
                                                        JsonDocument& document) {
  if (text.size() > limits.max_bytes) {
    return JsonFault{limits.max_bytes,
                     std::to_string(text.size()) + " bytes; at most " + std::to_string(limits.max_bytes) + " are read"};
  }
  detail::JsonCursor cursor{text.data(), text.data()};
  const char* end = text.data() + text.size();
  detail::JsonBuilder builder(cursor, limits);
  nlohmann::json::sax_parse(detail::JsonIterator(&cursor, end), detail::JsonIterator(&cursor, end), &builder);
  if (auto fault = builder.fault()) return fault;
  document = builder.take();
  return std::nullopt;
}

// Writes JSON text piece by piece: nothing but the text is in memory. Commas come by themselves; the caller closes what
// it opens.
class JsonWriter {
 public:
  JsonWriter& open(char bracket) {
    separate();
    text_ += bracket;
    first_ = true;
    return *this;
  }
  JsonWriter& close(char bracket) {
    text_ += bracket;
    first_ = false;
    return *this;
  }
  JsonWriter& key(std::string_view name) {
    string(name);
    text_ += ':';
    first_ = true;
    return *this;
  }
  // Bytes that are no UTF-8 become U+FFFD.
  JsonWriter& string(std::string_view value) {
    separate();
    text_ += nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    return *this;
  }
  JsonWriter& boolean(bool value) { return json(value ? "true" : "false"); }
  // What is JSON already.
  JsonWriter& json(std::string_view text) {
    separate();
    text_ += text;
    return *this;
  }
  JsonWriter& number(std::integral auto value) {
    separate();
    text_ += std::to_string(value);
    return *this;
  }
  // As short as it can be read back; JSON has none for what is not finite: null.
  JsonWriter& number(double value) {
    separate();
    if (!std::isfinite(value)) {
      text_ += "null";
      return *this;
    }
    char digits[32];
    const auto made = std::to_chars(digits, digits + sizeof digits, value);
    const std::string_view shown(digits, static_cast<std::size_t>(made.ptr - digits));
    text_ += shown;
    if (shown.find_first_of(".e") == std::string_view::npos) text_ += ".0";
    return *this;
  }
  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  void separate() {
    if (!first_) text_ += ',';
    first_ = false;
  }
  std::string text_;
  bool first_ = true;
};

}  // namespace plugin
}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_PLUGIN_JSON_HPP_
