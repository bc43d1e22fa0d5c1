// Errors inside the library: one exception type with a code; the C ABI turns it into a status object.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace mambasdk {

// Values are part of the C ABI (MAMBASDK_ERROR_*); never renumber.
enum class ErrorCode : std::int32_t {
  invalid_argument = 1,  // wrong shape, dtype, device or value
  not_found = 2,         // no such file, operation, plugin or tensor
  unsupported = 3,       // valid, but nothing here can do it
  corrupt = 4,           // a file is damaged or hostile
  version = 5,           // made for a newer or foreign version
  io = 6,                // the operating system refused
  cancelled = 7,
  out_of_memory = 8,
  internal = 9,
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

template <class... Parts>
[[nodiscard]] std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

// Say what, where, expected, got, and the way out.
template <class... Parts>
[[noreturn]] void fail(ErrorCode code, const Parts&... parts) {
  throw Error(code, concat(parts...));
}

}  // namespace mambasdk
