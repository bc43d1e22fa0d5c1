// The C++20 face of the C ABI: header-only, exceptions and RAII on the caller's side of the boundary.
//
//   mambasdk::Model model("packages/tiny");
//   mambasdk::Session session(model);
//   session.generate("def ", {.max_new_tokens = 100, .on_text = [](std::string_view t) { std::cout << t; return true;
//   }});
#ifndef MAMBASDK_MAMBASDK_HPP_
#define MAMBASDK_MAMBASDK_HPP_

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
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

[[nodiscard]] inline const mambasdk_api& api() {
  static const mambasdk_api* table = mambasdk_get_api(MAMBASDK_ABI_MAJOR, MAMBASDK_ABI_MINOR);
  if (table == nullptr) {
    throw Error(MAMBASDK_ERROR_VERSION, "mambasdk",
                "the libmambasdk that was loaded is older than this program's headers; install a newer one");
  }
  return *table;
}

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

struct Named {
  std::string_view name;
  TensorRef tensor;
};

struct SamplerOptions {
  double temperature = 0.0;  // 0: greedy
  double top_p = 1.0;        // 1: off
  double min_p = 0.0;        // 0: off
  double repetition_penalty = 1.0;
  std::int64_t top_k = 0;  // 0: off
  std::uint64_t seed = 0;

  [[nodiscard]] mambasdk_sampler_options c() const {
    return {sizeof(mambasdk_sampler_options), temperature, top_p, min_p, repetition_penalty, top_k, seed};
  }
};

namespace detail {
template <class T, auto Release>
struct Releaser {
  void operator()(T* p) const { (api().*Release)(p); }
};
template <class T, auto Release>
using Handle = std::unique_ptr<T, Releaser<T, Release>>;
}  // namespace detail

// A model package in memory. Immutable; sessions of several threads may share it.
class Model {
 public:
  explicit Model(std::string_view directory, bool verify_files = false) {
    const mambasdk_load_options options{sizeof(options), verify_files ? 1 : 0, 0};
    mambasdk_model* made = nullptr;
    check(api().model_load(to_c(directory), &options, &made));
    handle_.reset(made);
  }
  [[nodiscard]] std::string_view description() const { return to_cpp(api().model_describe(handle_.get())); }  // JSON
  [[nodiscard]] const mambasdk_model* get() const { return handle_.get(); }

 private:
  detail::Handle<mambasdk_model, &mambasdk_api::model_release> handle_;
};

class Tokenizer {
 public:
  explicit Tokenizer(const Model& model) {
    mambasdk_tokenizer* made = nullptr;
    check(api().tokenizer_of_model(model.get(), &made));
    handle_.reset(made);
  }
  // A Hugging Face tokenizer.json.
  explicit Tokenizer(std::string_view path) {
    mambasdk_tokenizer* made = nullptr;
    check(api().tokenizer_load(to_c(path), &made));
    handle_.reset(made);
  }
  [[nodiscard]] std::uint64_t vocab_size() const { return api().tokenizer_vocab_size(handle_.get()); }
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens = true) const {
    std::vector<std::int32_t> ids(text.size() + 8);
    std::uint64_t count = 0;
    check(api().tokenizer_encode(handle_.get(), to_c(text), add_special_tokens, ids.data(), ids.size(), &count));
    if (count > ids.size()) {
      ids.resize(static_cast<std::size_t>(count));
      check(api().tokenizer_encode(handle_.get(), to_c(text), add_special_tokens, ids.data(), ids.size(), &count));
    }
    ids.resize(static_cast<std::size_t>(count));
    return ids;
  }
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens = true) const {
    std::string text(ids.size() * 8 + 16, '\0');
    std::uint64_t size = 0;
    check(api().tokenizer_decode(handle_.get(), ids.data(), ids.size(), skip_special_tokens, text.data(), text.size(),
                                 &size));
    if (size > text.size()) {
      text.resize(static_cast<std::size_t>(size));
      check(api().tokenizer_decode(handle_.get(), ids.data(), ids.size(), skip_special_tokens, text.data(), text.size(),
                                   &size));
    }
    text.resize(static_cast<std::size_t>(size));
    return text;
  }

  [[nodiscard]] const mambasdk_tokenizer* get() const { return handle_.get(); }

 private:
  detail::Handle<mambasdk_tokenizer, &mambasdk_api::tokenizer_release> handle_;
};

// Text out of tokens as they come: whole characters only.
class TextStream {
 public:
  // continues: the text follows another (a prompt). The tokenizer must outlive the stream.
  explicit TextStream(const Tokenizer& tokenizer, bool continues = false, bool skip_special_tokens = true) {
    mambasdk_text_stream* made = nullptr;
    check(api().text_stream_create(tokenizer.get(), skip_special_tokens, continues, &made));
    handle_.reset(made);
  }
  [[nodiscard]] std::string push(std::int32_t token) {
    mambasdk_string text{};
    check(api().text_stream_push(handle_.get(), token, &text));
    return std::string(to_cpp(text));
  }
  [[nodiscard]] std::string finish() {
    mambasdk_string text{};
    check(api().text_stream_finish(handle_.get(), &text));
    return std::string(to_cpp(text));
  }

 private:
  detail::Handle<mambasdk_text_stream, &mambasdk_api::text_stream_release> handle_;
};

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options = {}) {
    const mambasdk_sampler_options c = options.c();
    mambasdk_sampler* made = nullptr;
    check(api().sampler_create(&c, &made));
    handle_.reset(made);
  }
  [[nodiscard]] std::int32_t sample(std::span<const float> logits) {
    std::int32_t token = -1;
    check(api().sampler_sample(handle_.get(), logits.data(), logits.size(), &token));
    return token;
  }
  void observe(std::span<const std::int32_t> tokens) {
    check(api().sampler_observe(handle_.get(), tokens.data(), tokens.size()));
  }

 private:
  detail::Handle<mambasdk_sampler, &mambasdk_api::sampler_release> handle_;
};

struct GenerateOptions {
  std::int64_t max_new_tokens = 128;
  SamplerOptions sampler{};
  std::vector<std::string> stop{};                  // generation ends before the first of these
  std::function<bool(std::string_view)> on_text{};  // whole UTF-8 characters; false stops
};

// One sequence (or batch) in progress, with its state. One thread at a time.
class Session {
 public:
  explicit Session(const Model& model, const mambasdk_context* context = nullptr) {
    mambasdk_session* made = nullptr;
    check(api().session_create(model.get(), context, &made));
    handle_.reset(made);
  }

  // Named inputs in, named outputs out; the state carries over to the next run.
  [[nodiscard]] std::vector<Tensor> run(std::initializer_list<Named> inputs,
                                        std::initializer_list<std::string_view> outputs) {
    return run(std::span<const Named>(inputs.begin(), inputs.size()),
               std::span<const std::string_view>(outputs.begin(), outputs.size()));
  }
  [[nodiscard]] std::vector<Tensor> run(std::span<const Named> inputs, std::span<const std::string_view> outputs) {
    std::vector<mambasdk_tensor> tensors;
    tensors.reserve(inputs.size());
    std::vector<mambasdk_named_tensor> named;
    for (const Named& input : inputs) {
      tensors.push_back(input.tensor.tensor());
      named.push_back({to_c(input.name), &tensors.back()});
    }
    std::vector<mambasdk_string> names;
    for (const std::string_view name : outputs) names.push_back(to_c(name));
    std::vector<mambasdk_managed_tensor*> made(outputs.size(), nullptr);
    check(api().session_run(handle_.get(), named.data(), named.size(), names.data(), names.size(), made.data()));
    std::vector<Tensor> results;
    for (mambasdk_managed_tensor* t : made) results.emplace_back(t);
    return results;
  }

  // A language model's next-token logits after these tokens, batch 1.
  [[nodiscard]] Tensor next_logits(std::span<const std::int32_t> tokens) {
    return std::move(
        run({{"tokens", TensorRef(tokens, {1, static_cast<std::int64_t>(tokens.size())})}}, {"last_logits"})[0]);
  }

  mambasdk_generate_result generate(std::string_view prompt, const GenerateOptions& options = {}) {
    const mambasdk_sampler_options sampler = options.sampler.c();
    std::vector<mambasdk_string> stop;
    for (const std::string& s : options.stop) stop.push_back(to_c(s));
    mambasdk_generate_options c{};
    c.struct_size = sizeof(c);
    c.sampler = &sampler;
    c.max_new_tokens = options.max_new_tokens;
    c.stop = stop.data();
    c.stop_count = stop.size();
    struct Relay {  // an exception must not pass through the library: it waits here
      const std::function<bool(std::string_view)>& on_text;
      std::exception_ptr thrown{};
    } relay{options.on_text};
    c.user = &relay;
    if (options.on_text) {
      c.on_text = [](void* user, mambasdk_string text) -> std::int32_t {
        Relay& r = *static_cast<Relay*>(user);
        try {
          return r.on_text(to_cpp(text)) ? 0 : 1;
        } catch (...) {
          r.thrown = std::current_exception();
          return 1;
        }
      };
    }
    mambasdk_generate_result result{};
    result.struct_size = sizeof(result);
    check(api().session_generate(handle_.get(), to_c(prompt), &c, &result));
    if (relay.thrown) std::rethrow_exception(relay.thrown);
    return result;
  }

  void reset() { check(api().session_reset(handle_.get())); }
  [[nodiscard]] Session clone() const {
    mambasdk_session* made = nullptr;
    check(api().session_clone(handle_.get(), &made));
    return Session(made);
  }
  [[nodiscard]] std::vector<std::byte> save() const {
    std::uint64_t size = 0;
    check(api().session_save(handle_.get(), nullptr, 0, &size));
    std::vector<std::byte> image(static_cast<std::size_t>(size));
    check(api().session_save(handle_.get(), image.data(), image.size(), &size));
    return image;
  }
  void restore(std::span<const std::byte> image) {
    check(api().session_restore(handle_.get(), image.data(), image.size()));
  }
  [[nodiscard]] mambasdk_session* get() const { return handle_.get(); }

 private:
  explicit Session(mambasdk_session* made) : handle_(made) {}
  detail::Handle<mambasdk_session, &mambasdk_api::session_release> handle_;
};

// Loads a native plugin by absolute path and returns what it brought (JSON).
inline std::string load_plugin(std::string_view absolute_path) {
  mambasdk_string description{};
  check(api().plugin_load(to_c(absolute_path), &description));
  return std::string(to_cpp(description));
}

}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_MAMBASDK_HPP_
