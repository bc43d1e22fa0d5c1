// Between the C ABI's types and the library's: tensors, statuses, contexts. Exceptions end here.
#pragma once

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <string_view>

#include "core/op.hpp"
#include "mambasdk/mambasdk.h"
#include "runtime/engine/engine.hpp"

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

// Copies as much of a versioned struct as the peer has; the rest is zero. `least`: what the first minor that had the
// struct gave it. Errors: invalid_argument for NULL, version for a size that cannot be.
template <class T>
[[nodiscard]] T read_struct(const T* peer, std::size_t least, std::string_view what) {
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 16;  // beyond it, the size was never set
  if (peer == nullptr) fail(ErrorCode::invalid_argument, what, " is NULL");
  if (peer->struct_size < least || peer->struct_size > kLargest) {
    fail(ErrorCode::version, what, " has struct_size ", peer->struct_size, ", expected at least ", least,
         "; set it to sizeof of the struct");
  }
  T copy{};
  std::memcpy(static_cast<void*>(&copy), peer,
              std::min<std::size_t>(sizeof(T), static_cast<std::size_t>(peer->struct_size)));
  return copy;
}

// Text of a struct that a peer filled in. Error: invalid_argument where it has a size but no data.
[[nodiscard]] std::string_view checked_text(mambasdk_string s, std::string_view what);

[[nodiscard]] Tensor from_abi(const mambasdk_tensor& t, std::string_view name);
[[nodiscard]] mambasdk_tensor to_abi(const Tensor& t);  // borrows shape and strides of `t`

// Takes a tensor that a peer made; its deleter runs when the last copy dies, also where this throws. What is strided
// becomes a contiguous copy.
[[nodiscard]] runtime::OwnedTensor take_tensor(mambasdk_managed_tensor* tensor, std::string_view name);
// The other way: one that the receiver deletes.
[[nodiscard]] mambasdk_managed_tensor* hand_out(runtime::OwnedTensor owned);

[[nodiscard]] std::vector<runtime::NamedTensor> named_from_abi(const mambasdk_named_tensor* inputs,
                                                               std::uint64_t count);
// Named tensors as a peer gets them; borrows what it was made from.
class NamedToAbi {
 public:
  explicit NamedToAbi(std::span<const runtime::NamedTensor> named);
  [[nodiscard]] const mambasdk_named_tensor* data() const noexcept { return named_.data(); }
  [[nodiscard]] std::uint64_t size() const noexcept { return named_.size(); }

 private:
  std::vector<mambasdk_tensor> tensors_;
  std::vector<mambasdk_named_tensor> named_;
};

// The host's context where it has members, the runtime's own elsewhere. Borrows `host`; NULL is fine.
class HostContext final : public Context {
 public:
  explicit HostContext(const mambasdk_context* host);
  [[nodiscard]] Parallel parallel() const override;
  [[nodiscard]] void* allocate(std::size_t bytes) const override;
  void release(void* data, std::size_t bytes) const noexcept override;
  [[nodiscard]] bool is_cancelled() const noexcept override;
  [[nodiscard]] void* stream() const noexcept override { return host_.stream; }
  [[nodiscard]] Device device() const noexcept override;
  [[nodiscard]] int device_index() const noexcept override { return host_.device.index; }

 private:
  mambasdk_context host_{};
};

// The other way: what a plugin's function is given. Borrows `context`.
[[nodiscard]] mambasdk_context to_abi(const Context& context, Device device);

}  // namespace mambasdk::abi
