// Hardened JSON: nlohmann's iterative SAX parser builds the document under our limits.
#include "runtime/package/json.hpp"

#include <cstring>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.hpp"

namespace mambasdk::runtime {
namespace {

using nlohmann::json;

// The lexer's position, shared by the copies it makes of its input iterator, so that every error has an offset.
struct Cursor {
  const char* begin;
  const char* at;
};

class TrackedIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  TrackedIterator(Cursor* cursor, const char* end) : cursor_(cursor), end_(end) {}
  reference operator*() const { return *cursor_->at; }
  TrackedIterator& operator++() {
    ++cursor_->at;
    return *this;
  }
  // Only ever compared with the end.
  bool operator==(const TrackedIterator&) const { return cursor_->at == end_; }
  bool operator!=(const TrackedIterator&) const { return cursor_->at != end_; }

 private:
  Cursor* cursor_;
  const char* end_;
};

class Builder : public nlohmann::json_sax<json> {
 public:
  Builder(std::string_view source, const Cursor& cursor, int max_depth)
      : source_(source), cursor_(cursor), max_depth_(static_cast<std::size_t>(max_depth)) {}

  json take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t& value) override { return put(std::move(value)); }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto [place, added] = stack_.back()->get_ref<json::object_t&>().emplace(std::move(name), nullptr);
    if (!added) refuse("duplicate key ", printable(place->first));
    member_ = &place->second;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    const char* reason = std::strstr(error.what(), ": ");
    refuse(printable(reason != nullptr ? reason + 2 : error.what()));
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ErrorCode::corrupt, source_, ": not valid JSON at byte ", cursor_.at - cursor_.begin, ": ", parts...);
  }

  template <class Value>
  json* add(Value&& value) {
    if (stack_.empty()) {
      root_ = std::forward<Value>(value);
      return &root_;
    }
    if (stack_.back()->is_array())
      return &stack_.back()->get_ref<json::array_t&>().emplace_back(std::forward<Value>(value));
    *member_ = std::forward<Value>(value);
    return member_;
  }

  template <class Value>
  bool put(Value&& value) {
    add(std::forward<Value>(value));
    return true;
  }

  bool open(json container) {
    if (stack_.size() >= max_depth_) refuse("nested deeper than ", max_depth_, " levels");
    stack_.push_back(add(std::move(container)));
    return true;
  }

  bool close() {
    stack_.pop_back();
    return true;
  }

  std::string_view source_;
  const Cursor& cursor_;
  std::size_t max_depth_;
  json root_;
  std::vector<json*> stack_;  // open containers; a container does not move while one inside it is open
  json* member_ = nullptr;
};

[[noreturn]] void fail_type(std::string_view where, std::string_view expected, const json& value) {
  fail(ErrorCode::corrupt, where, ": expected ", expected, ", got ", value.type_name());
}

}  // namespace

json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    fail(ErrorCode::corrupt, source, ": ", text.size(), " bytes of JSON; at most ", limits.max_bytes, " are read");
  }
  Cursor cursor{text.data(), text.data()};
  const char* end = text.data() + text.size();
  Builder builder(source, cursor, limits.max_depth);
  json::sax_parse(TrackedIterator(&cursor, end), TrackedIterator(&cursor, end), &builder);
  return builder.take();
}

const json* json_find(const json& object, std::string_view key) {
  const auto place = object.find(key);
  if (place == object.end() || place->is_null()) return nullptr;
  return &*place;
}

const json& json_at(const json& object, std::string_view key, std::string_view where) {
  if (!object.is_object()) fail_type(where, "an object", object);
  const auto place = object.find(key);
  if (place == object.end()) fail(ErrorCode::corrupt, where, ": \"", key, "\" is missing");
  return *place;
}

const json& json_object(const json& value, std::string_view where) {
  if (!value.is_object()) fail_type(where, "an object", value);
  return value;
}

const json& json_array(const json& value, std::string_view where) {
  if (!value.is_array()) fail_type(where, "an array", value);
  return value;
}

const std::string& json_string(const json& value, std::string_view where) {
  if (!value.is_string()) fail_type(where, "a string", value);
  return value.get_ref<const std::string&>();
}

bool json_bool(const json& value, std::string_view where) {
  if (!value.is_boolean()) fail_type(where, "true or false", value);
  return value.get<bool>();
}

std::int64_t json_int(const json& value, std::string_view where) {
  if (!value.is_number_integer()) fail_type(where, "an integer", value);
  if (value.is_number_unsigned() &&
      value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    fail(ErrorCode::corrupt, where, ": ", value.get<std::uint64_t>(), " does not fit a signed 64-bit integer");
  }
  return value.get<std::int64_t>();
}

std::string json_string_at(const json& object, std::string_view key, std::string_view where) {
  return json_string(json_at(object, key, where), concat(where, ".", key));
}

std::string json_string_or(const json& object, std::string_view key, std::string_view fallback,
                           std::string_view where) {
  const json* value = json_find(json_object(object, where), key);
  return value == nullptr ? std::string(fallback) : json_string(*value, concat(where, ".", key));
}

bool json_bool_or(const json& object, std::string_view key, bool fallback, std::string_view where) {
  const json* value = json_find(json_object(object, where), key);
  return value == nullptr ? fallback : json_bool(*value, concat(where, ".", key));
}

std::optional<std::int64_t> json_find_int(const json& object, std::string_view key, std::string_view where) {
  const json* value = json_find(json_object(object, where), key);
  if (value == nullptr) return std::nullopt;
  return json_int(*value, concat(where, ".", key));
}

std::string printable(std::string_view text) {
  constexpr std::size_t max_shown = 120;
  std::string shown;
  for (const char c : text.substr(0, max_shown)) shown += (c >= ' ' && c <= '~') ? c : '?';
  if (text.size() > max_shown) shown += "...";
  return shown;
}

}  // namespace mambasdk::runtime
