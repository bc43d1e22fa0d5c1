// Errors of the bounded reader with the file's name, and typed access to members.
#include "runtime/package/json.hpp"

#include <limits>

#include "core/error.hpp"

namespace mambasdk::runtime {
namespace {

using nlohmann::json;

[[noreturn]] void fail_type(std::string_view where, std::string_view expected, const json& value) {
  fail(ErrorCode::corrupt, where, ": expected ", expected, ", got ", value.type_name());
}

}  // namespace

JsonDocument parse_json(std::string_view text, std::string_view source, const JsonLimits& limits) {
  JsonDocument document;
  if (const auto fault = plugin::read_json(text, limits, document)) {
    fail(ErrorCode::corrupt, source, ": not valid JSON at byte ", fault->at, ": ", fault->reason);
  }
  return document;
}

const json* json_find(const json& object, std::string_view key) {
  const auto place = object.find(key);
  if (place == object.end() || place->is_null()) return nullptr;
  return &*place;
}

const json& json_at(const json& object, std::string_view key, std::string_view where) {
  if (!object.is_object()) fail_type(where, "an object", object);
  const auto place = object.find(key);
  if (place == object.end()) fail(ErrorCode::corrupt, where, ": \"", printable(key), "\" is missing");
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
  return plugin::quoted(text);
}

}  // namespace mambasdk::runtime
