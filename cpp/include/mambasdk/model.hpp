// Models, sessions, text: the C++20 face of the slots that run a package.
#ifndef MAMBASDK_MODEL_HPP_
#define MAMBASDK_MODEL_HPP_

#include <initializer_list>

#include "mambasdk/base.hpp"

namespace mambasdk {
inline namespace abi1 {

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

enum class Verify : std::int32_t {
  automatic = MAMBASDK_VERIFY_AUTOMATIC,  // files that were not compared since they last changed
  off = MAMBASDK_VERIFY_OFF,              // names and sizes only
  all = MAMBASDK_VERIFY_ALL,              // every file's SHA-256
};

struct LoadOptions {
  Verify verify = Verify::automatic;
  bool allow_code = false;       // machine code inside the package may be executed, by an engine such as aoti
  std::uint64_t max_memory = 0;  // bytes of prepared weights, and of each session; 0: a share of what there is

  [[nodiscard]] mambasdk_load_options c() const {
    return {sizeof(mambasdk_load_options), 0, 0, static_cast<std::int32_t>(verify), allow_code ? 1 : 0, max_memory};
  }
};

namespace detail {
// What a Session and a head do with a handle.
[[nodiscard]] inline std::vector<Tensor> run_session(mambasdk_session* session, const mambasdk_named_tensor* inputs,
                                                     std::uint64_t input_count,
                                                     std::span<const std::string_view> outputs) {
  std::vector<mambasdk_string> names;
  for (const std::string_view name : outputs) names.push_back(to_c(name));
  std::vector<mambasdk_managed_tensor*> made(outputs.size(), nullptr);
  std::vector<Tensor> results;
  results.reserve(made.size());
  check(api().session_run(session, inputs, input_count, names.data(), names.size(), made.data()));
  for (mambasdk_managed_tensor* t : made) results.emplace_back(t);
  return results;
}
[[nodiscard]] inline std::vector<std::byte> save_session(const mambasdk_session* session) {
  std::uint64_t size = 0;
  check(api().session_save(session, nullptr, 0, &size));
  std::vector<std::byte> image(static_cast<std::size_t>(size));
  check(api().session_save(session, image.data(), image.size(), &size));
  return image;
}
}  // namespace detail

// A model package in memory. Immutable; sessions of several threads may share it.
class Model {
 public:
  explicit Model(std::string_view directory, const LoadOptions& options = LoadOptions()) {
    const mambasdk_load_options c = options.c();
    mambasdk_model* made = nullptr;
    check(api().model_load(to_c(directory), &c, &made));
    handle_.reset(made);
  }
  explicit Model(std::string_view directory, bool verify_files)
      : Model(directory, LoadOptions{.verify = verify_files ? Verify::all : Verify::automatic}) {}
  explicit Model(mambasdk_model* made) : handle_(made) {}                                                     // owns it
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

  // On a device of a plugin, "cuda" or "cuda:1", and on a stream of its own; inputs and outputs are on the CPU.
  Session(const Model& model, std::string_view device) {
    if (!MAMBASDK_HAS_SLOT(&api(), device_find)) {
      throw Error(MAMBASDK_ERROR_VERSION, "Session", "this libmambasdk knows no devices; install a newer one");
    }
    mambasdk_context context{};
    context.struct_size = sizeof(context);
    check(api().device_find(to_c(device), &context.device));
    mambasdk_session* made = nullptr;
    check(api().session_create(model.get(), &context, &made));
    handle_.reset(made);
  }

  // Named inputs in, named outputs out; the state carries over to the next run.
  [[nodiscard]] std::vector<Tensor> run(std::initializer_list<Named> inputs,
                                        std::initializer_list<std::string_view> outputs) {
    return run(std::span<const Named>(inputs.begin(), inputs.size()),
               std::span<const std::string_view>(outputs.begin(), outputs.size()));
  }
  [[nodiscard]] std::vector<Tensor> run(std::span<const Named> inputs, std::span<const std::string_view> outputs) {
    const detail::NamedInputs named(inputs);
    return detail::run_session(handle_.get(), named.data(), named.size(), outputs);
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
    detail::TextRelay relay{options.on_text};
    c.user = &relay;
    c.on_text = relay.function();
    mambasdk_generate_result result{};
    result.struct_size = sizeof(result);
    mambasdk_status* status = api().session_generate(handle_.get(), to_c(prompt), &c, &result);
    relay.rethrow(status);
    check(status);
    return result;
  }

  void reset() { check(api().session_reset(handle_.get())); }
  [[nodiscard]] Session clone() const {
    mambasdk_session* made = nullptr;
    check(api().session_clone(handle_.get(), &made));
    return Session(made);
  }
  [[nodiscard]] std::vector<std::byte> save() const { return detail::save_session(handle_.get()); }
  void restore(std::span<const std::byte> image) {
    check(api().session_restore(handle_.get(), image.data(), image.size()));
  }
  // Bytes of weights, states and activations. Throws Error (MAMBASDK_ERROR_UNSUPPORTED) with an engine that does not
  // count them.
  [[nodiscard]] mambasdk_session_memory memory() const {
    mambasdk_session_memory made{};
    made.struct_size = sizeof(made);
    check(api().session_memory(handle_.get(), &made));
    return made;
  }
  [[nodiscard]] mambasdk_session* get() const { return handle_.get(); }

 private:
  explicit Session(mambasdk_session* made) : handle_(made) {}
  detail::Handle<mambasdk_session, &mambasdk_api::session_release> handle_;
};

}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_MODEL_HPP_
