// Between the C ABI's types and the library's: tensors, statuses, contexts. Exceptions end here.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include "core/device.hpp"
#include "core/op.hpp"
#include "mambasdk/mambasdk.h"
#include "runtime/engine/engine.hpp"

struct mambasdk_status {
  std::int32_t code;
  std::string message;
  std::string origin;
};

namespace mambasdk::abi {

// No object is larger: an address has at most 47 bits.
inline constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 47;

// Text of the library's own, or that checked_text() has seen.
[[nodiscard]] inline std::string_view view(mambasdk_string s) {
  return {s.data, static_cast<std::size_t>(s.size)};
}
// Text of a caller where it only names something: what cannot be text is "".
[[nodiscard]] inline std::string_view name_or_empty(mambasdk_string s) noexcept {
  return s.data == nullptr || s.size > kMostBytes ? std::string_view() : view(s);
}
[[nodiscard]] inline mambasdk_string view(std::string_view s) {
  return {s.data(), s.size()};
}

// Never fails: when memory is out, a static status says so.
[[nodiscard]] mambasdk_status* make_status(std::int32_t code, std::string_view message,
                                           std::string_view origin) noexcept;
void release_status(mambasdk_status* status) noexcept;          // NULL is fine
[[noreturn]] void throw_status(const mambasdk_status* status);  // as Error; releases the status
inline void check_status(const mambasdk_status* status) {
  if (status != nullptr) throw_status(status);
}

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
// struct gave it. Errors: invalid_argument for NULL, wrong_size for a size that cannot be.
template <class T>
[[nodiscard]] T read_struct(const T* peer, std::size_t least, std::string_view what,
                            ErrorCode wrong_size = ErrorCode::version) {
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 16;  // beyond it, the size was never set
  if (peer == nullptr) fail(ErrorCode::invalid_argument, what, " is NULL");
  if (peer->struct_size < least || peer->struct_size > kLargest) {
    fail(wrong_size, what, " has struct_size ", peer->struct_size, ", expected at least ", least,
         "; set it to sizeof of the struct");
  }
  T copy{};
  std::memcpy(static_cast<void*>(&copy), peer,
              std::min<std::size_t>(sizeof(T), static_cast<std::size_t>(peer->struct_size)));
  return copy;
}

// The same for a caller's options, where a wrong size is an invalid argument.
template <class T>
[[nodiscard]] T read_options(const T* given, std::size_t least, std::string_view what) {
  return read_struct(given, least, what, ErrorCode::invalid_argument);
}

// Fills as much of the caller's struct as its struct_size says that there is; that member stays.
template <class T>
void fill_struct(T& to, const T& full) {
  constexpr std::size_t first = sizeof(std::uint64_t);
  const std::uint64_t size = std::min<std::uint64_t>(to.struct_size, sizeof(T));
  if (size <= first) return;
  std::memcpy(reinterpret_cast<char*>(&to) + first, reinterpret_cast<const char*>(&full) + first, size - first);
}

// Runs what returns no status; what it throws becomes `otherwise`.
template <class T, class F>
[[nodiscard]] T guard_value(T otherwise, F&& f) noexcept {
  try {
    return f();
  } catch (...) {
    return otherwise;
  }
}

template <class T>
void require(const T* pointer, std::string_view name) {
  if (pointer == nullptr) fail(ErrorCode::invalid_argument, name, " is NULL");
}
// Errors: invalid_argument for items at NULL, and for a count that no memory holds.
template <class T>
void require_array(const T* items, std::uint64_t count, std::string_view name) {
  if (count > 0 && items == nullptr) fail(ErrorCode::invalid_argument, name, " is NULL, for ", count, " items");
  if (count > kMostBytes / sizeof(T)) {
    fail(ErrorCode::invalid_argument, name, " has ", count, " items, more than any memory holds; was the count set?");
  }
}
template <>
inline void require_array<void>(const void* items, std::uint64_t count, std::string_view name) {
  require_array(static_cast<const char*>(items), count, name);
}

// An object that belongs to one thread at a time, for the time of one call: a second thread, or a callback of the
// first, is refused. Error(invalid_argument).
class InUse {
 public:
  InUse(std::atomic<bool>& flag, std::string_view what) : flag_(flag) {
    if (flag_.exchange(true, std::memory_order_acquire)) {
      fail(ErrorCode::invalid_argument, "the ", what,
           " is in use, by another thread or by the call whose callback this is; a ", what,
           " belongs to one thread at a time: make another, or take turns");
    }
  }
  ~InUse() { flag_.store(false, std::memory_order_release); }
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;

 private:
  std::atomic<bool>& flag_;
};

// What an on_text answered: whether to go on. Error(cancelled) for MAMBASDK_TEXT_FAILED.
[[nodiscard]] bool shown(std::int32_t answer);

// Text of a caller, or of a struct that a peer filled in. Errors: invalid_argument where it has a size but no data, or
// a size that no memory holds.
[[nodiscard]] std::string_view checked_text(mambasdk_string s, std::string_view what);
// The same for a path, which has no NUL inside.
[[nodiscard]] std::string_view checked_path(mambasdk_string s, std::string_view what);

[[nodiscard]] Tensor from_abi(const mambasdk_tensor& t, std::string_view name);
[[nodiscard]] mambasdk_tensor to_abi(const Tensor& t);  // borrows shape and strides of `t`

// Takes a tensor that a peer made; its deleter runs when the last copy dies, also where this throws. What is strided
// becomes a contiguous copy.
[[nodiscard]] runtime::OwnedTensor take_tensor(mambasdk_managed_tensor* tensor, std::string_view name);
// The other way: tensors that the receiver deletes. What can fail is done when this is made, so that a run that went
// well is handed out whatever comes.
class Outputs {
 public:
  explicit Outputs(std::uint64_t count);
  ~Outputs();
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;
  void hand_out(std::vector<runtime::OwnedTensor> made, mambasdk_managed_tensor** outputs) noexcept;

 private:
  struct Managed;
  std::vector<std::unique_ptr<Managed>> managed_;
};

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
  // For one call on tensors that lie there. Error(invalid_argument) where the host names another device.
  HostContext(const mambasdk_context* host, Device device, int index);
  ~HostContext() override;
  HostContext(const HostContext&) = delete;
  HostContext& operator=(const HostContext&) = delete;
  [[nodiscard]] Parallel parallel() const override;
  [[nodiscard]] void* allocate(std::size_t bytes) const override;
  void release(void* data, std::size_t bytes) const noexcept override;
  [[nodiscard]] bool is_cancelled() const noexcept override;
  [[nodiscard]] void* stream() const noexcept override { return host_.stream; }
  [[nodiscard]] Device device() const noexcept override;
  [[nodiscard]] int device_index() const noexcept override { return host_.device.index; }
  void make_stream() override;

 private:
  mambasdk_context host_{};
  bool owns_stream_ = false;
};

// The other way: what a plugin's function is given. Borrows `context`.
[[nodiscard]] mambasdk_context to_abi(const Context& context);

}  // namespace mambasdk::abi
