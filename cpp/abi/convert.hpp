// Between the C ABI's types and the library's: tensors, statuses, contexts. Exceptions end here.
#pragma once

#include <new>
#include <string>
#include <string_view>

#include "core/op.hpp"
#include "mambasdk/mambasdk.h"

struct mambasdk_status {
  std::int32_t code;
  std::string message;
  std::string origin;
};

namespace mambasdk::abi {

[[nodiscard]] inline std::string_view view(mambasdk_string s) {
  return {s.data, static_cast<std::size_t>(s.size)};
}
[[nodiscard]] inline mambasdk_string view(std::string_view s) {
  return {s.data(), s.size()};
}

// Never fails: when memory is out, a static status says so.
[[nodiscard]] mambasdk_status* make_status(std::int32_t code, std::string_view message,
                                           std::string_view origin) noexcept;
void release_status(mambasdk_status* status) noexcept;          // NULL is fine
[[noreturn]] void throw_status(const mambasdk_status* status);  // as Error; releases the status

template <class F>
[[nodiscard]] mambasdk_status* guard(std::string_view origin, F&& f) noexcept {
  try {
    f();
    return nullptr;
  } catch (const Error& e) {
    return make_status(static_cast<std::int32_t>(e.code()), e.what(), origin);
  } catch (const std::bad_alloc&) {
    return make_status(MAMBASDK_ERROR_OUT_OF_MEMORY, "out of memory", origin);
  } catch (const std::exception& e) {
    return make_status(MAMBASDK_ERROR_INTERNAL, e.what(), origin);
  } catch (...) {
    return make_status(MAMBASDK_ERROR_INTERNAL, "unknown failure", origin);
  }
}

[[nodiscard]] Tensor from_abi(const mambasdk_tensor& t, std::string_view name);
[[nodiscard]] mambasdk_tensor to_abi(const Tensor& t);  // borrows shape and strides of `t`

// The host's context where it has members, the runtime's own elsewhere. Borrows `host`; NULL is fine.
class HostContext final : public Context {
 public:
  explicit HostContext(const mambasdk_context* host);
  [[nodiscard]] Parallel parallel() const override;
  [[nodiscard]] void* allocate(std::size_t bytes) const override;
  void release(void* data, std::size_t bytes) const noexcept override;
  [[nodiscard]] bool is_cancelled() const noexcept override;
  [[nodiscard]] void* stream() const noexcept override { return host_.stream; }

 private:
  mambasdk_context host_{};
};

// The other way: what a plugin's kernel is given. Borrows `context`.
[[nodiscard]] mambasdk_context to_abi(const Context& context, Device device);

}  // namespace mambasdk::abi
