#include "callbacks.hpp"

namespace mambasdk::python {

namespace {

// Of this thread: callbacks run on the thread of the call that leads to them.
struct Waiting {
  std::exception_ptr thrown;
  std::string message;  // of the status that stands for it
};
thread_local Waiting waiting;

}  // namespace

namespace waiting_error {

std::int32_t code_of(const py::error_already_set& error) {
  if (error.matches(PyExc_NotImplementedError)) return MAMBASDK_ERROR_UNSUPPORTED;
  if (error.matches(PyExc_ValueError) || error.matches(PyExc_TypeError)) return MAMBASDK_ERROR_INVALID_ARGUMENT;
  if (error.matches(PyExc_LookupError)) return MAMBASDK_ERROR_NOT_FOUND;
  if (error.matches(PyExc_MemoryError)) return MAMBASDK_ERROR_OUT_OF_MEMORY;
  if (error.matches(PyExc_OSError)) return MAMBASDK_ERROR_IO;
  return MAMBASDK_ERROR_INTERNAL;
}

// Inside a handler: what is thrown is the current exception.
mambasdk_status* keep(std::int32_t code, std::string message, std::string_view origin) noexcept {
  waiting.thrown = std::current_exception();
  waiting.message = std::move(message);
  return api().status_create(code, to_c(waiting.message), to_c(origin));
}

}  // namespace waiting_error

void check_python(mambasdk_status* status) {
  Waiting found = std::exchange(waiting, {});
  if (status == nullptr) return;
  if (found.thrown && to_cpp(api().status_message(status)) == found.message) {
    api().status_release(status);
    std::rethrow_exception(std::move(found.thrown));
  }
  check(status);
}

}  // namespace mambasdk::python
