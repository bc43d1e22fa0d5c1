// Common ground of the C++20 face: errors, the table of functions, strings, tensors.
#ifndef MAMBASDK_BASE_HPP_
#define MAMBASDK_BASE_HPP_

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "mambasdk/mambasdk.h"

namespace mambasdk {
inline namespace abi1 {

class Error : public std::runtime_error {
 public:
  Error(std::int32_t code, std::string_view origin, const std::string& message)
      : std::runtime_error(message), code_(code), origin_(origin) {}
  [[nodiscard]] std::int32_t code() const noexcept { return code_; }            // MAMBASDK_ERROR_*
  [[nodiscard]] const std::string& origin() const noexcept { return origin_; }  // operation, file or plugin

 private:
  std::int32_t code_;
  std::string origin_;
};

[[nodiscard]] inline mambasdk_string to_c(std::string_view s) {
  return {s.data(), s.size()};
}
[[nodiscard]] inline std::string_view to_cpp(mambasdk_string s) {
  return {s.data, static_cast<std::size_t>(s.size)};
}

#if defined(MAMBASDK_PLUGIN)
// Inside a plugin: the table that its host gave it (plugin.hpp). One per plugin, whatever else is in the process.
namespace detail {
__attribute__((visibility("hidden"))) inline const mambasdk_api* host_api = nullptr;
}
[[nodiscard]] inline const mambasdk_api& api() {
  if (detail::host_api == nullptr) {
    throw Error(MAMBASDK_ERROR_INTERNAL, "plugin", "the table was asked for before the host initialised the plugin");
  }
  return *detail::host_api;
}
#else
[[nodiscard]] inline const mambasdk_api& api() {
  static const mambasdk_api* table = mambasdk_get_api(MAMBASDK_ABI_MAJOR, MAMBASDK_ABI_MINOR);
  if (table == nullptr) {
    throw Error(MAMBASDK_ERROR_VERSION, "mambasdk",
                "the libmambasdk that was loaded is older than this program's headers; install a newer one");
  }
  return *table;
}
#endif

inline void check(mambasdk_status* status) {
  if (status == nullptr) return;
  const mambasdk_api& a = api();
  Error error(a.status_code(status), to_cpp(a.status_origin(status)), std::string(to_cpp(a.status_message(status))));
  a.status_release(status);
  throw error;
}

template <class T>
[[nodiscard]] constexpr mambasdk_dtype dtype_of() {
  if constexpr (std::is_same_v<T, bool>) return {6, 8, 1};
  const auto code = static_cast<std::uint8_t>(std::is_floating_point_v<T> ? 2 : std::is_signed_v<T> ? 0 : 1);
  return {code, sizeof(T) * 8, 1};
}

// A borrowed, contiguous array with a shape: what a call takes.
class TensorRef {
 public:
  template <class T>
  TensorRef(std::span<T> data, std::vector<std::int64_t> shape) : shape_(std::move(shape)) {
    std::int64_t count = 1;
    for (const std::int64_t n : shape_) count *= n;
    if (count != static_cast<std::int64_t>(data.size())) {
      throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "TensorRef",
                  "the shape has " + std::to_string(count) + " elements, the data " + std::to_string(data.size()));
    }
    tensor_ = {const_cast<std::remove_const_t<T>*>(data.data()),
               {1, 0},
               static_cast<std::int32_t>(shape_.size()),
               dtype_of<std::remove_const_t<T>>(),
               nullptr,
               nullptr,
               0};
  }
  // The bytes of a text or a file, as a vector of u8.
  [[nodiscard]] static TensorRef bytes(std::string_view data) {
    return TensorRef(std::span(reinterpret_cast<const std::uint8_t*>(data.data()), data.size()),
                     {static_cast<std::int64_t>(data.size())});
  }
  [[nodiscard]] mambasdk_tensor tensor() const {
    mambasdk_tensor t = tensor_;
    t.shape = const_cast<std::int64_t*>(shape_.data());
    return t;
  }

 private:
  std::vector<std::int64_t> shape_;
  mambasdk_tensor tensor_{};
};

// A tensor that the library made; contiguous; goes back when this dies.
class Tensor {
 public:
  explicit Tensor(mambasdk_managed_tensor* owned) : owned_(owned) {}
  [[nodiscard]] std::span<const std::int64_t> shape() const {
    return {owned_->tensor.shape, static_cast<std::size_t>(owned_->tensor.ndim)};
  }
  [[nodiscard]] mambasdk_dtype dtype() const { return owned_->tensor.dtype; }
  [[nodiscard]] std::size_t size() const {
    std::size_t n = 1;
    for (const std::int64_t extent : shape()) n *= static_cast<std::size_t>(extent);
    return n;
  }
  // Throws Error when T is not the element type.
  template <class T>
  [[nodiscard]] std::span<const T> data() const {
    constexpr mambasdk_dtype wanted = dtype_of<T>();
    if (dtype().code != wanted.code || dtype().bits != wanted.bits) {
      throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "Tensor::data", "the tensor has another element type");
    }
    return {static_cast<const T*>(owned_->tensor.data), size()};
  }
  [[nodiscard]] mambasdk_managed_tensor* get() const { return owned_.get(); }
  [[nodiscard]] mambasdk_managed_tensor* release() { return owned_.release(); }

 private:
  struct Delete {
    void operator()(mambasdk_managed_tensor* t) const { t->deleter(t); }
  };
  std::unique_ptr<mambasdk_managed_tensor, Delete> owned_;
};

// A borrowed tensor of the other side: valid as long as its owner says.
class TensorView {
 public:
  TensorView(std::string_view name, const mambasdk_tensor& tensor) : name_(name), tensor_(&tensor) {}
  [[nodiscard]] std::string_view name() const { return name_; }
  [[nodiscard]] const mambasdk_tensor& get() const { return *tensor_; }
  [[nodiscard]] std::span<const std::int64_t> shape() const {
    return {tensor_->shape, static_cast<std::size_t>(tensor_->ndim)};
  }
  [[nodiscard]] std::size_t size() const {
    std::size_t n = 1;
    for (const std::int64_t extent : shape()) n *= static_cast<std::size_t>(extent);
    return n;
  }
  [[nodiscard]] bool is_contiguous() const {
    if (size() == 0) return true;  // whatever its strides say
    std::int64_t expected = 1;
    for (std::int32_t d = tensor_->ndim; tensor_->strides != nullptr && d-- > 0; expected *= tensor_->shape[d]) {
      if (tensor_->shape[d] != 1 && tensor_->strides[d] != expected) return false;
    }
    return true;
  }
  // Throws Error where T is not the element type, or the elements are strided or not in the CPU's memory.
  template <class T>
  [[nodiscard]] std::span<const T> data() const {
    constexpr mambasdk_dtype wanted = dtype_of<T>();
    if (tensor_->dtype.code != wanted.code || tensor_->dtype.bits != wanted.bits) {
      throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, name_, std::string(name_) + " has another element type");
    }
    if (tensor_->device.type != 1 || !is_contiguous()) {
      throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, name_,
                  std::string(name_) + " must be contiguous and in the CPU's memory");
    }
    return {reinterpret_cast<const T*>(static_cast<const char*>(tensor_->data) + tensor_->byte_offset), size()};
  }
  // Of a vector of u8.
  [[nodiscard]] std::string_view bytes() const {
    const auto all = data<std::uint8_t>();
    return {reinterpret_cast<const char*>(all.data()), all.size()};
  }

 private:
  std::string_view name_;
  const mambasdk_tensor* tensor_;
};

struct Named {
  std::string_view name;
  TensorRef tensor;
};

namespace detail {
// Named tensors as the table takes them; borrows `inputs`.
class NamedInputs {
 public:
  explicit NamedInputs(std::span<const Named> inputs) {
    tensors_.reserve(inputs.size());
    named_.reserve(inputs.size());
    for (const Named& input : inputs) {
      tensors_.push_back(input.tensor.tensor());
      named_.push_back({to_c(input.name), &tensors_.back()});
    }
  }
  [[nodiscard]] const mambasdk_named_tensor* data() const { return named_.data(); }
  [[nodiscard]] std::uint64_t size() const { return named_.size(); }

 private:
  std::vector<mambasdk_tensor> tensors_;
  std::vector<mambasdk_named_tensor> named_;
};

// An exception must not pass through the library: it waits here.
struct TextRelay {
  const std::function<bool(std::string_view)>& on_text;
  std::exception_ptr thrown{};

  static std::int32_t call(void* user, mambasdk_string text) {
    auto& relay = *static_cast<TextRelay*>(user);
    try {
      return relay.on_text(to_cpp(text)) ? 0 : 1;
    } catch (...) {
      relay.thrown = std::current_exception();
      return MAMBASDK_TEXT_FAILED;
    }
  }
  [[nodiscard]] mambasdk_text_fn function() const { return on_text ? &TextRelay::call : nullptr; }
  // What on_text threw, instead of the status that it led to.
  void rethrow(mambasdk_status* status) const {
    if (!thrown) return;
    api().status_release(status);
    std::rethrow_exception(thrown);
  }
};
}  // namespace detail

namespace detail {
template <class T, auto Release>
struct Releaser {
  void operator()(T* p) const { (api().*Release)(p); }
};
template <class T, auto Release>
using Handle = std::unique_ptr<T, Releaser<T, Release>>;
}  // namespace detail

}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_BASE_HPP_
