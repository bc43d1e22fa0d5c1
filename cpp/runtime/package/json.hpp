// JSON from untrusted files: size and depth limits, no duplicate keys, errors that name the file and the place.
// Users of the returned values include <nlohmann/json.hpp> in their .cpp file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace mambasdk::runtime {

struct JsonLimits {
  std::size_t max_bytes = std::size_t{64} << 20;
  int max_depth = 64;
};

// `source` names the text in errors (a file name). Errors: corrupt.
[[nodiscard]] nlohmann::json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits = {});

// Typed access to the members of an object; `where` names the object in errors ("mambasdk.json: processors.text").
// A missing or wrongly typed member is corrupt; an absent or null one is nullptr / nullopt for the find_ forms.
[[nodiscard]] const nlohmann::json* json_find(const nlohmann::json& object, std::string_view key);
[[nodiscard]] const nlohmann::json& json_at(const nlohmann::json& object, std::string_view key, std::string_view where);
const nlohmann::json& json_object(const nlohmann::json& value, std::string_view where);
const nlohmann::json& json_array(const nlohmann::json& value, std::string_view where);
[[nodiscard]] const std::string& json_string(const nlohmann::json& value, std::string_view where);
[[nodiscard]] bool json_bool(const nlohmann::json& value, std::string_view where);
// An integer literal that fits int64 (1.0 is not one).
[[nodiscard]] std::int64_t json_int(const nlohmann::json& value, std::string_view where);

[[nodiscard]] std::string json_string_at(const nlohmann::json& object, std::string_view key, std::string_view where);
[[nodiscard]] std::string json_string_or(const nlohmann::json& object, std::string_view key, std::string_view fallback,
                                         std::string_view where);
[[nodiscard]] bool json_bool_or(const nlohmann::json& object, std::string_view key, bool fallback,
                                std::string_view where);
[[nodiscard]] std::optional<std::int64_t> json_find_int(const nlohmann::json& object, std::string_view key,
                                                        std::string_view where);

// `text` shortened and made printable ASCII, for quoting untrusted text in an error.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace mambasdk::runtime
