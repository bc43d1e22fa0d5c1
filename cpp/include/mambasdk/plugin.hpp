// For authors of native plugins: C++ classes as operations, processors, heads and engines. Header-only; a plugin links
// to nothing of mambasdk. Exceptions become statuses on the plugin's side of the boundary.
//
//   struct Upper {  // a processor; a head looks the same
//     static constexpr std::string_view kind = "upper";
//     static constexpr std::string_view doc = "Text in capital letters.";
//     Upper(std::string_view config, std::string_view directory);
//     void run(const mambasdk::plugin::Inputs& inputs, mambasdk::plugin::Emitter& emit);
//   };
//   MAMBASDK_PLUGIN_MAIN("my-plugin", "1.0.0", {}, [](mambasdk::plugin::Registrar& r) { r.processor<Upper>(); })
//
// Include it before any other header of mambasdk. The rules: docs/abi.md.
#ifndef MAMBASDK_PLUGIN_HPP_
#define MAMBASDK_PLUGIN_HPP_

#if !defined(MAMBASDK_PLUGIN)
#if defined(MAMBASDK_BASE_HPP_)
#error "include mambasdk/plugin.hpp before mambasdk/mambasdk.hpp, or build with mambasdk_add_plugin()"
#endif
#define MAMBASDK_PLUGIN 1
#endif

#include <algorithm>
#include <cstring>
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
  Emitter(mambasdk_emit_fn emit, void* user) : emit_(emit), user_(user) {}
  void operator()(std::string_view name, Tensor tensor) { check(emit_(user_, to_c(name), tensor.release())); }
  template <class T>
  void operator()(std::string_view name, std::vector<T> data, std::vector<std::int64_t> shape) {
    (*this)(name, make_tensor(std::move(data), std::move(shape)));
  }
  void text(std::string_view name, std::string_view value) {
    (*this)(name, std::vector<std::uint8_t>(value.begin(), value.end()), {static_cast<std::int64_t>(value.size())});
  }
  void json(std::string_view value) { text("json", value); }

 private:
  mambasdk_emit_fn emit_;
  void* user_;
};

// What a kernel is given: arguments as the signature declares them, outputs allocated and contiguous.
class OpCall {
 public:
  explicit OpCall(const mambasdk_op_call& call) : call_(&call) {}
  [[nodiscard]] bool has(std::size_t i) const { return call_->inputs[i].kind == MAMBASDK_VALUE_TENSOR; }
  [[nodiscard]] TensorView input(std::size_t i) const { return {"an input", *call_->inputs[i].as.tensor}; }
  [[nodiscard]] bool flag(std::size_t i) const { return call_->inputs[i].as.integer != 0; }
  [[nodiscard]] std::int64_t integer(std::size_t i) const { return call_->inputs[i].as.integer; }
  [[nodiscard]] double real(std::size_t i) const { return call_->inputs[i].as.real; }
  [[nodiscard]] bool has_output(std::size_t i) const { return call_->outputs[i].data != nullptr; }
  [[nodiscard]] const mambasdk_tensor& output(std::size_t i) const { return call_->outputs[i]; }
  // Throws Error where T is not the element type.
  template <class T>
  [[nodiscard]] std::span<T> output(std::size_t i) const {
    const std::span<const T> data = TensorView("an output", call_->outputs[i]).template data<T>();
    return {const_cast<T*>(data.data()), data.size()};
  }
  [[nodiscard]] std::int64_t dim(std::size_t i) const {
    return call_->dims[i];
  }  // by first appearance in the signature
  [[nodiscard]] const mambasdk_context& context() const { return *call_->context; }
  [[nodiscard]] const mambasdk_op_call& get() const { return *call_; }

 private:
  const mambasdk_op_call* call_;
};

namespace detail {

template <auto Function>
mambasdk_status* kernel(void*, const mambasdk_op_call* call) {
  return guard("", [&] { Function(OpCall(*call)); });
}

template <class T>
mambasdk_processor_definition processor_definition() {
  mambasdk_processor_definition d{};
  d.struct_size = sizeof(d);
  d.kind = to_c(T::kind);
  d.doc = to_c(T::doc);
  d.create = [](void*, mambasdk_string config, mambasdk_string directory, void** instance) {
    return guard(T::kind, [&] { *instance = new T(to_cpp(config), to_cpp(directory)); });
  };
  d.release = [](void*, void* instance) { delete static_cast<T*>(instance); };
  d.run = [](void*, void* instance, const mambasdk_context* context, const mambasdk_named_tensor* inputs,
             std::uint64_t count, mambasdk_emit_fn emit, void* user) {
    return guard(T::kind, [&] {
      Emitter emitter(emit, user);
      static_cast<T*>(instance)->run(Inputs(inputs, count, *context), emitter);
    });
  };
  if constexpr (requires(T& t) { t.reset(); }) {
    d.reset = [](void*, void* instance) { return guard(T::kind, [&] { static_cast<T*>(instance)->reset(); }); };
  }
  return d;
}

// A session with the context it was made in.
template <class E>
struct EngineSession {
  const mambasdk_context* context;
  std::unique_ptr<typename E::Session> session;
};

template <class E>
mambasdk_engine_definition engine_definition() {
  using Model = typename E::Model;
  using Session = typename E::Session;
  using Held = EngineSession<E>;
  mambasdk_engine_definition d{};
  d.struct_size = sizeof(d);
  d.name = to_c(E::name);
  d.doc = to_c(E::doc);
  d.model_load = [](void*, const mambasdk_package* package, void** model) {
    return guard(E::name, [&] { *model = new Model(to_cpp(package->directory), to_cpp(package->manifest)); });
  };
  d.model_release = [](void*, void* model) { delete static_cast<Model*>(model); };
  d.session_create = [](void*, void* model, const mambasdk_context* context, void** session) {
    return guard(E::name, [&] {
      auto made = std::make_unique<Session>(*static_cast<Model*>(model), *context);
      *session = new Held{context, std::move(made)};
    });
  };
  d.session_release = [](void*, void* session) { delete static_cast<Held*>(session); };
  d.session_run = [](void*, void* session, const mambasdk_named_tensor* inputs, std::uint64_t input_count,
                     const mambasdk_string* names, std::uint64_t output_count, mambasdk_managed_tensor** outputs) {
    return guard(E::name, [&] {
      auto& held = *static_cast<Held*>(session);
      std::vector<std::string_view> wanted;
      for (std::uint64_t i = 0; i < output_count; ++i) wanted.push_back(to_cpp(names[i]));
      std::vector<Tensor> made = held.session->run(Inputs(inputs, input_count, *held.context), wanted);
      if (made.size() != output_count) fail(MAMBASDK_ERROR_INTERNAL, "the engine returned another number of outputs");
      for (std::uint64_t i = 0; i < output_count; ++i) outputs[i] = made[static_cast<std::size_t>(i)].release();
    });
  };
  if constexpr (requires(Session& s) { s.reset(); }) {
    d.session_reset = [](void*, void* session) {
      return guard(E::name, [&] { static_cast<Held*>(session)->session->reset(); });
    };
  }
  if constexpr (requires(const Session& s) { std::unique_ptr<Session>(s.clone()); }) {
    d.session_clone = [](void*, void* session, void** clone) {
      return guard(E::name, [&] {
        const auto& held = *static_cast<const Held*>(session);
        std::unique_ptr<Session> made = std::as_const(*held.session).clone();
        *clone = new Held{held.context, std::move(made)};
      });
    };
  }
  if constexpr (requires(Session& s) { s.restore(std::vector<std::byte>(s.save())); }) {
    d.session_save = [](void*, void* session, void* data, std::uint64_t capacity, std::uint64_t* size) {
      return guard(E::name, [&] {
        const std::vector<std::byte> image = static_cast<Held*>(session)->session->save();
        if (data != nullptr) {
          if (capacity < image.size()) fail(MAMBASDK_ERROR_INVALID_ARGUMENT, "the buffer is too small for the state");
          std::memcpy(data, image.data(), image.size());
        }
        *size = image.size();
      });
    };
    d.session_restore = [](void*, void* session, const void* data, std::uint64_t size) {
      return guard(E::name, [&] {
        const auto* bytes = static_cast<const std::byte*>(data);
        static_cast<Held*>(session)->session->restore(std::vector<std::byte>(bytes, bytes + size));
      });
    };
  }
  return d;
}

}  // namespace detail

// Registers everything that a plugin brings; nothing is visible before all of it went well.
class Registrar {
 public:
  explicit Registrar(mambasdk_registrar* registrar) : registrar_(registrar) {}

  // T: static signature and doc, and of the functions check, reference, cpu (const OpCall&) what it has; at least one
  // of the last two. reference takes every dtype of the signature.
  template <class T>
  void op() {
    mambasdk_op_definition d{};
    d.struct_size = sizeof(d);
    d.signature = to_c(T::signature);
    d.doc = to_c(T::doc);
    if constexpr (requires(const OpCall& c) { T::check(c); }) d.check = detail::kernel<&T::check>;
    if constexpr (requires(const OpCall& c) { T::reference(c); }) d.reference = detail::kernel<&T::reference>;
    if constexpr (requires(const OpCall& c) { T::cpu(c); }) d.cpu = detail::kernel<&T::cpu>;
    check(api().register_op(registrar_, &d));
  }
  // A kernel for an operation of this or another plugin; device_type: 1 CPU, 2 CUDA.
  template <auto Function>
  void kernel(std::string_view op, std::int32_t device_type) {
    check(api().register_kernel(registrar_, to_c(op), device_type, detail::kernel<Function>, nullptr));
  }
  // T: static kind and doc, T(config, directory), run(const Inputs&, Emitter&), and reset() where it keeps state.
  template <class T>
  void processor() {
    add<T>(MAMBASDK_PROCESSOR);
  }
  template <class T>
  void head() {
    add<T>(MAMBASDK_HEAD);
  }
  // E: static name and doc; E::Model(directory, manifest); E::Session(const Model&, const mambasdk_context&) with
  // run(const Inputs&, std::span<const std::string_view>) -> std::vector<Tensor>, and of reset(), clone() ->
  // unique_ptr, save() -> std::vector<std::byte> with restore(std::vector<std::byte>) what it can do.
  template <class E>
  void engine() {
    need(takes_engines(), "engines");
    const mambasdk_engine_definition d = detail::engine_definition<E>();
    check(api().register_engine(registrar_, &d));
  }
  // What a plugin asks that needs ABI 1.0 only and brings more where it can.
  [[nodiscard]] static bool takes_engines() { return MAMBASDK_HAS_SLOT(&api(), register_engine); }
  [[nodiscard]] static bool takes_processors() { return MAMBASDK_HAS_SLOT(&api(), register_processor); }
  [[nodiscard]] mambasdk_registrar* get() const { return registrar_; }

 private:
  static void need(bool present, const char* what) {
    if (!present) fail(MAMBASDK_ERROR_VERSION, std::string("this host takes no ") + what + "; it needs ABI 1.1");
  }
  template <class T>
  void add(std::int32_t role) {
    need(takes_processors(), "processors and heads");
    const mambasdk_processor_definition d = detail::processor_definition<T>();
    check(api().register_processor(registrar_, role, &d));
  }

  mambasdk_registrar* registrar_;
};

// What a plugin needs of its host.
struct Needs {
  std::uint32_t abi_minor = MAMBASDK_ABI_MINOR;
  std::string_view isa = "";
  std::string_view torch = "";  // a range, as ">=2.10,<3"
  std::string_view cuda = "";
};

template <class Register>
[[nodiscard]] mambasdk_status* initialize(const mambasdk_api* host, mambasdk_registrar* registrar,
                                          std::string_view name, Register&& add) {
  abi1::detail::host_api = host;
  return guard(name, [&] {
    Registrar r(registrar);
    add(r);
  });
}

constexpr mambasdk_plugin_descriptor descriptor(std::string_view name, std::string_view version, const Needs& needs,
                                                decltype(mambasdk_plugin_descriptor::initialize) initialize) {
  return {sizeof(mambasdk_plugin_descriptor),
          MAMBASDK_ABI_MAJOR,
          needs.abi_minor,
          {name.data(), name.size()},
          {version.data(), version.size()},
          {needs.isa.data(), needs.isa.size()},
          initialize,
          {needs.torch.data(), needs.torch.size()},
          {needs.cuda.data(), needs.cuda.size()}};
}

}  // namespace plugin
}  // namespace abi1
}  // namespace mambasdk

// The function that a host asks for. NEEDS: {} for what was compiled against, else a plugin::Needs in parentheses, as
// (mambasdk::plugin::Needs{.abi_minor = 0, .isa = "avx2"}); the rest: a callable that takes a plugin::Registrar&.
#define MAMBASDK_PLUGIN_MAIN(NAME, VERSION, NEEDS, ...)                                      \
  extern "C" MAMBASDK_EXPORT const mambasdk_plugin_descriptor* mambasdk_plugin(void) {       \
    static constexpr mambasdk_plugin_descriptor descriptor = ::mambasdk::plugin::descriptor( \
        NAME, VERSION, NEEDS, [](const mambasdk_api* host, mambasdk_registrar* registrar) {  \
          return ::mambasdk::plugin::initialize(host, registrar, NAME, __VA_ARGS__);         \
        });                                                                                  \
    return &descriptor;                                                                      \
  }                                                                                          \
  static_assert(true)

#endif  // MAMBASDK_PLUGIN_HPP_
