// JSON from untrusted files: limits on size, depth and values, no duplicate keys, errors that name the file and the
// place. The reader itself is mambasdk/plugin/json.hpp, which plugins use too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "mambasdk/plugin/json.hpp"

namespace mambasdk::runtime {

using plugin::JsonDocument;
using plugin::JsonLimits;

// `source` names the text in errors (a file name). Keep the document as it is: only so does it go without asking for
// memory. Errors: corrupt; std::bad_alloc.
[[nodiscard]] JsonDocument parse_json(std::string_view text, std::string_view source, const JsonLimits& limits = {});

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

// `text` in printable ASCII, cut after 80 characters, for quoting untrusted text in an error.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace mambasdk::runtime
