// Python code that the library calls: an exception must not pass through the library, so it waits until the call that
// led to it has returned.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "tensor.hpp"

namespace mambasdk::python {

// Runs f, which holds the GIL; what it throws becomes a status, and waits.
template <class F>
[[nodiscard]] mambasdk_status* call_python(std::string_view origin, F&& f) noexcept;

// As check(), but for an exception of Python code that led to `status`: that is raised itself. Holds the GIL.
void check_python(mambasdk_status* status);

namespace waiting_error {
[[nodiscard]] mambasdk_status* keep(std::int32_t code, std::string message, std::string_view origin) noexcept;
[[nodiscard]] std::int32_t code_of(const py::error_already_set& error);
}  // namespace waiting_error

template <class F>
mambasdk_status* call_python(std::string_view origin, F&& f) noexcept {
  const py::gil_scoped_acquire locked;
  try {
    f();
    return nullptr;
  } catch (const py::error_already_set& e) {
    return waiting_error::keep(waiting_error::code_of(e), e.what(), origin);
  } catch (const Error& e) {
    return waiting_error::keep(e.code(), e.what(), origin);
  } catch (const std::exception& e) {
    return waiting_error::keep(MAMBASDK_ERROR_INTERNAL, e.what(), origin);
  }
}

}  // namespace mambasdk::python
