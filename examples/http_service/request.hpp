// What a client may ask for: the body of POST /generate.
#pragma once

#include <mambasdk/mambasdk.hpp>
#include <stdexcept>
#include <string>

// The client's mistake; the message is for it to read.
struct BadRequest : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Nothing is wrong with the request, but it cannot be served now.
struct Busy : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct GenerateRequest {
  std::string prompt;
  mambasdk::GenerateOptions options;  // on_text is left empty
};

// {"prompt": "…", "max_new_tokens": 128, "temperature": 0, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1,
// "seed": 0, "stop": ["…"]}; all but the prompt may be left out. Throws BadRequest.
[[nodiscard]] GenerateRequest parse_request(const std::string& body);

// {"error": message}
[[nodiscard]] std::string error_body(const std::string& message);
