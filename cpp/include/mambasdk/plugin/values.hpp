// What goes in and out of the parts of a plugin: statuses, tensors, inputs, results. Included by mambasdk/plugin.hpp.
#ifndef MAMBASDK_PLUGIN_VALUES_HPP_
#define MAMBASDK_PLUGIN_VALUES_HPP_

#if !defined(MAMBASDK_PLUGIN)
#error "include mambasdk/plugin.hpp, which includes this"
#endif

#include <algorithm>
#include <new>

#include "mambasdk/mambasdk.hpp"

namespace mambasdk {
inline namespace abi1 {
namespace plugin {

// Runs f; what it throws becomes a status.
template <class F>
[[nodiscard]] mambasdk_status* guard(std::string_view origin, F&& f) noexcept {
  const auto status = [&](std::int32_t code, std::string_view message) {
    return api().status_create(code, to_c(message), to_c(origin));
  };
  try {
    f();
    return nullptr;
  } catch (const Error& e) {
    return status(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return status(MAMBASDK_ERROR_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return status(MAMBASDK_ERROR_INTERNAL, e.what());
  } catch (...) {
    return status(MAMBASDK_ERROR_INTERNAL, "unknown failure");
  }
}

[[noreturn]] inline void fail(std::int32_t code, const std::string& message) {
  throw Error(code, "", message);
}

// An input or an option that cannot be used; say what was expected and what came.
[[noreturn]] inline void invalid(const std::string& message) {
  fail(MAMBASDK_ERROR_INVALID_ARGUMENT, message);
}

// A shape for a message: "(2, 3)".
[[nodiscard]] inline std::string to_text(std::span<const std::int64_t> shape) {
  std::string text;
  for (const std::int64_t n : shape) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return "(" + text + ")";
}

// A tensor that owns `data`; empty shape: a vector.
template <class T>
[[nodiscard]] Tensor make_tensor(std::vector<T> data, std::vector<std::int64_t> shape) {
  struct Block {
    mambasdk_managed_tensor managed{};
    std::vector<T> data;
    std::vector<std::int64_t> shape;
  };
  std::int64_t count = 1;
  for (const std::int64_t n : shape) count *= n;
  if (count != static_cast<std::int64_t>(data.size())) {
    fail(MAMBASDK_ERROR_INTERNAL,
         "make_tensor: the shape has " + std::to_string(count) + " elements, the data " + std::to_string(data.size()));
  }
  auto block = std::make_unique<Block>();
  block->data = std::move(data);
  block->shape = std::move(shape);
  block->managed.dlpack_major = 1;
  block->managed.manager = block.get();
  block->managed.deleter = [](mambasdk_managed_tensor* self) { delete static_cast<Block*>(self->manager); };
  block->managed.tensor = {block->data.data(),
                           {1, 0},
                           static_cast<std::int32_t>(block->shape.size()),
                           dtype_of<T>(),
                           block->shape.data(),
                           nullptr,
                           0};
  return Tensor(&block.release()->managed);
}

// f(begin, end) over disjoint ranges that cover [0, n), on the host's threads. f must not throw.
template <class F>
void parallel_for(const mambasdk_context& context, std::int64_t n, std::int64_t grain, F&& f) {
  context.parallel_for(
      context.user, n, grain,
      [](void* arg, std::int64_t begin, std::int64_t end) {
        (*static_cast<std::remove_reference_t<F>*>(arg))(begin, end);
      },
      const_cast<void*>(static_cast<const void*>(&f)));
}

// What a processor, a head or an engine is given.
class Inputs {
 public:
  Inputs(const mambasdk_named_tensor* inputs, std::uint64_t count, const mambasdk_context& context)
      : inputs_(inputs, static_cast<std::size_t>(count)), context_(&context) {}
  [[nodiscard]] std::size_t size() const { return inputs_.size(); }
  [[nodiscard]] TensorView operator[](std::size_t i) const { return {to_cpp(inputs_[i].name), *inputs_[i].tensor}; }
  [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }
  // Throws Error with the names that there are.
  [[nodiscard]] TensorView operator[](std::string_view name) const {
    if (const mambasdk_named_tensor* found = find(name)) return {to_cpp(found->name), *found->tensor};
    std::string names;
    for (const auto& input : inputs_) names += (names.empty() ? "" : ", ") + std::string(to_cpp(input.name));
    throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "",
                "input " + std::string(name) + " is missing; got " + (names.empty() ? "none" : names));
  }
  [[nodiscard]] const mambasdk_context& context() const { return *context_; }
  [[nodiscard]] std::span<const mambasdk_named_tensor> get() const { return inputs_; }

 private:
  [[nodiscard]] const mambasdk_named_tensor* find(std::string_view name) const {
    const auto found = std::find_if(inputs_.begin(), inputs_.end(), [&](auto& i) { return to_cpp(i.name) == name; });
    return found == inputs_.end() ? nullptr : &*found;
  }

  std::span<const mambasdk_named_tensor> inputs_;
  const mambasdk_context* context_;
};

// Takes what a processor or a head makes.
class Emitter {
 public:
  // on_text: where a head's text goes as it is written; may be NULL.
  Emitter(mambasdk_emit_fn emit, void* user, mambasdk_text_fn on_text = nullptr, void* text_user = nullptr)
      : emit_(emit), user_(user), on_text_(on_text), text_user_(text_user) {}
  void operator()(std::string_view name, Tensor tensor) { check(emit_(user_, to_c(name), tensor.release())); }
  template <class T>
  void operator()(std::string_view name, std::vector<T> data, std::vector<std::int64_t> shape) {
    (*this)(name, make_tensor(std::move(data), std::move(shape)));
  }
  void text(std::string_view name, std::string_view value) {
    (*this)(name, std::vector<std::uint8_t>(value.begin(), value.end()), {static_cast<std::int64_t>(value.size())});
  }
  void json(std::string_view value) { text("json", value); }
  // Text as it is written, in whole UTF-8 characters; false: stop. Nothing of it is kept: emit the whole text too.
  [[nodiscard]] bool write(std::string_view piece) {
    if (on_text_ == nullptr) return true;
    const std::int32_t answer = on_text_(text_user_, to_c(piece));
    if (answer == MAMBASDK_TEXT_FAILED) fail(MAMBASDK_ERROR_CANCELLED, "the receiver of the text failed");
    return answer == 0;
  }

 private:
  mambasdk_emit_fn emit_;
  void* user_;
  mambasdk_text_fn on_text_;
  void* text_user_;
};

}  // namespace plugin
}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_PLUGIN_VALUES_HPP_
