#include "request.hpp"

#include <cstdint>
#include <nlohmann/json.hpp>

namespace {

using Json = nlohmann::json;

constexpr std::int64_t max_new_tokens_limit = 65536;

constexpr int max_depth = 4;  // an object that holds an array of texts needs two
constexpr std::size_t max_quoted = 80;

// For a message: never a container, whose text can be as large and as deep as the client likes.
std::string shown(const Json& value) {
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= max_quoted ? text : text.substr(0, max_quoted) + "…";
}

std::int64_t integer(const std::string& name, const Json& value, std::int64_t least, std::int64_t most) {
  // An unsigned number past 2^63 would turn negative on the way.
  const bool fits = value.is_number_integer() &&
                    !(value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(most));
  if (!fits || value.get<std::int64_t>() < least || value.get<std::int64_t>() > most) {
    throw BadRequest(name + " is " + shown(value) + ", expected an integer from " + std::to_string(least) + " to " +
                     std::to_string(most));
  }
  return value.get<std::int64_t>();
}

double number(const std::string& name, const Json& value) {
  if (!value.is_number()) throw BadRequest(name + " is " + shown(value) + ", expected a number");
  return value.get<double>();
}

std::string text(const std::string& name, const Json& value) {
  if (!value.is_string()) throw BadRequest(name + " is " + shown(value) + ", expected a string");
  return value.get<std::string>();
}

}  // namespace

GenerateRequest parse_request(const std::string& body) {
  const auto limit_depth = [](int depth, Json::parse_event_t, Json&) {
    if (depth > max_depth) throw BadRequest("the body is nested too deeply");
    return true;
  };
  const Json json = Json::parse(body, limit_depth, /*allow_exceptions=*/false);
  if (!json.is_object()) throw BadRequest("the body is not a JSON object; expected {\"prompt\": \"…\"}");
  if (!json.contains("prompt")) throw BadRequest("the request has no \"prompt\"");

  GenerateRequest request;
  mambasdk::SamplerOptions& sampler = request.options.sampler;
  for (const auto& [name, value] : json.items()) {
    if (name == "prompt") {
      request.prompt = text(name, value);
    } else if (name == "max_new_tokens") {
      request.options.max_new_tokens = integer(name, value, 1, max_new_tokens_limit);
    } else if (name == "top_k") {
      sampler.top_k = integer(name, value, 0, INT32_MAX);
    } else if (name == "seed") {
      sampler.seed = static_cast<std::uint64_t>(integer(name, value, 0, INT64_MAX));
    } else if (name == "temperature") {
      sampler.temperature = number(name, value);
    } else if (name == "top_p") {
      sampler.top_p = number(name, value);
    } else if (name == "min_p") {
      sampler.min_p = number(name, value);
    } else if (name == "repetition_penalty") {
      sampler.repetition_penalty = number(name, value);
    } else if (name == "stop") {
      if (!value.is_array()) throw BadRequest("stop is " + shown(value) + ", expected an array of strings");
      for (const Json& one : value) request.options.stop.push_back(text("stop", one));
    } else {
      throw BadRequest("the request has an unknown member " + shown(Json(name)));
    }
  }
  return request;
}

std::string error_body(const std::string& message) {
  return Json{{"error", message}}.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}
