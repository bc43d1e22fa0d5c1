// For authors of native plugins: C++ classes as operations, processors, heads and engines. Header-only; a plugin links
// to nothing of mambasdk. Exceptions become statuses on the plugin's side of the boundary.
//
//   struct Upper {  // a processor; a head of one run of its model looks the same
//     static constexpr std::string_view kind = "upper";
//     static constexpr std::string_view doc = "Text in capital letters.";
//     Upper(std::string_view config, std::string_view directory);
//     void run(const mambasdk::plugin::Inputs& inputs, mambasdk::plugin::Emitter& emit);
//   };
//   struct Denoise {  // a head that runs its model itself
//     …
//     void run(mambasdk::plugin::Model& model, const mambasdk::plugin::Inputs& inputs, mambasdk::plugin::Emitter&
//     emit);
//   };
//   MAMBASDK_PLUGIN_MAIN("my-plugin", "1.0.0", {}, [](mambasdk::plugin::Registrar& r) {
//     r.processor<Upper>();
//     r.head<Denoise>();
//   })
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

#include <cstring>

#include "mambasdk/declaration.hpp"
#include "mambasdk/mambasdk.hpp"
#include "mambasdk/plugin/head.hpp"
#include "mambasdk/plugin/state_change.hpp"
#include "mambasdk/plugin/values.hpp"

namespace mambasdk {
inline namespace abi1 {
namespace plugin {

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
template <class T>
inline constexpr Declaration kDeclaration{std::string_view(T::signature)};
template <class T, Name kSaved, Name kAfter, Name kUnused>
inline constexpr Declaration kDerivative =
    kDeclaration<T>.derivative({.saved = kSaved, .after = kAfter, .unused = kUnused});
}  // namespace detail

// A call of T, an operation, whose arguments are read by the names in T::signature: call.input<"x">(). A name that is
// not there, or of another kind, does not compile.
template <class T>
class CallOf : public OpCall {
 public:
  explicit CallOf(const mambasdk_op_call& call) : OpCall(call) {}

  template <Name kName>
  [[nodiscard]] bool has() const {
    return OpCall::has(argument<kName, Declaration::Kind::tensor>());
  }
  // A tensor that is there: required, or has<kName>().
  template <Name kName>
  [[nodiscard]] TensorView input() const {
    constexpr std::size_t i = argument<kName, Declaration::Kind::tensor>();
    constexpr std::string_view name =
        DeclarationText<detail::kDeclaration<T>>::part(detail::kDeclaration<T>.input_name(i));
    return {name, *get().inputs[i].as.tensor};
  }
  template <Name kName>
  [[nodiscard]] bool flag() const {
    return OpCall::flag(argument<kName, Declaration::Kind::boolean>());
  }
  template <Name kName>
  [[nodiscard]] std::int64_t integer() const {
    return OpCall::integer(argument<kName, Declaration::Kind::integer>());
  }
  template <Name kName>
  [[nodiscard]] double number() const {
    return OpCall::real(argument<kName, Declaration::Kind::real>());
  }
  template <Name kName>
  [[nodiscard]] bool has_output() const {
    return OpCall::has_output(result<kName>());
  }
  template <Name kName>
  [[nodiscard]] const mambasdk_tensor& output() const {
    return OpCall::output(result<kName>());
  }
  // Throws Error where E is not the element type.
  template <Name kName, class E>
  [[nodiscard]] std::span<E> output() const {
    return OpCall::template output<E>(result<kName>());
  }
  template <Name kName>
  [[nodiscard]] std::int64_t dim() const {
    constexpr int i = detail::kDeclaration<T>.dim(kName);
    static_assert(i >= 0, "the signature has no dim of this name");
    return OpCall::dim(static_cast<std::size_t>(i));
  }

 private:
  template <Name kName, Declaration::Kind kKind>
  static consteval std::size_t argument() {
    constexpr int i = detail::kDeclaration<T>.input(kName);
    static_assert(i >= 0, "the signature has no argument of this name");
    static_assert(i < 0 || detail::kDeclaration<T>.input_kind(static_cast<std::size_t>(i)) == kKind,
                  "the signature gives this argument another kind");
    return static_cast<std::size_t>(i);
  }
  template <Name kName>
  static consteval std::size_t result() {
    constexpr int i = detail::kDeclaration<T>.output(kName);
    static_assert(i >= 0, "the signature has no output of this name");
    return static_cast<std::size_t>(i);
  }
};

// The signature of the derivative of T: `<name>_backward` with the gradients of T's outputs and T's inputs as arguments
// and the gradients of T's tensors as outputs (Declaration::derivative). kSaved: an output of T that it reads too,
// after input kAfter; kUnused: an input of T that it does not read.
template <class T, Name kSaved = "", Name kAfter = "", Name kUnused = "">
inline constexpr std::string_view derivative_of =
    DeclarationText<detail::kDerivative<T, kSaved, kAfter, kUnused>>::view;

namespace detail {

template <class Call, auto Function>
mambasdk_status* kernel(void*, const mambasdk_op_call* call) {
  return guard("", [&] { Function(Call(*call)); });
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
  if constexpr (RunsAlone<T>) {
    d.run = [](void*, void* instance, const mambasdk_context* context, const mambasdk_named_tensor* inputs,
               std::uint64_t count, mambasdk_emit_fn emit, void* user) {
      return guard(T::kind, [&] {
        Emitter emitter(emit, user);
        static_cast<T*>(instance)->run(Inputs(inputs, count, *context), emitter);
      });
    };
  }
  if constexpr (DrivesModel<T>) {
    d.drive = [](void*, void* instance, const mambasdk_head_run* run) {
      return guard(T::kind, [&] {
        Model model(*run->model);
        Emitter emitter(run->emit, run->emit_user, run->on_text, run->text_user);
        static_cast<T*>(instance)->run(model, Inputs(run->inputs, run->input_count, *run->context), emitter);
      });
    };
  }
  if constexpr (requires(T& t, Model& m) { t.attach(m); }) {
    d.attach = [](void*, void* instance, const mambasdk_head_model* given) {
      return guard(T::kind, [&] {
        Model model(*given);
        static_cast<T*>(instance)->attach(model);
      });
    };
  }
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
  if constexpr (requires { E::executes_code; }) d.executes_code = E::executes_code ? 1 : 0;
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

  // T: static signature and doc, and of the functions check, reference, cpu (const CallOf<T>& or const OpCall&) what it
  // has; at least one of the last two. reference takes every dtype of the signature.
  template <class T>
  void op() {
    mambasdk_op_definition d{};
    d.struct_size = sizeof(d);
    d.signature = to_c(T::signature);
    d.doc = to_c(T::doc);
    if constexpr (requires(const CallOf<T>& c) { T::check(c); }) d.check = detail::kernel<CallOf<T>, &T::check>;
    if constexpr (requires(const CallOf<T>& c) { T::reference(c); })
      d.reference = detail::kernel<CallOf<T>, &T::reference>;
    if constexpr (requires(const CallOf<T>& c) { T::cpu(c); }) d.cpu = detail::kernel<CallOf<T>, &T::cpu>;
    check(api().register_op(registrar_, &d));
  }
  // A kernel for an operation of this or another plugin; device_type: 1 CPU, 2 CUDA.
  template <auto Function>
  void kernel(std::string_view op, std::int32_t device_type) {
    check(api().register_kernel(registrar_, to_c(op), device_type, detail::kernel<OpCall, Function>, nullptr));
  }
  // T: static kind and doc, T(config, directory), run(const Inputs&, Emitter&), and reset() where it keeps state.
  template <class T>
  void processor() {
    static_assert(!DrivesModel<T>, "a processor has no model: register it as a head");
    add<T>(MAMBASDK_PROCESSOR);
  }
  // The same, of what one run of the model made; or, for a head that runs its model itself, run(Model&, const Inputs&,
  // Emitter&), and attach(Model&) to look at the model beforehand. With both, run(const Inputs&, …) is the head without
  // a model. What run throws must leave the head's own state as it was (StateChange).
  template <class T>
  void head() {
    if constexpr (DrivesModel<T>) need(drives_models(), "heads that run their model", "1.2");
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
  [[nodiscard]] static bool drives_models() { return MAMBASDK_HAS_SLOT(&api(), head_create); }
  [[nodiscard]] mambasdk_registrar* get() const { return registrar_; }

 private:
  static void need(bool present, const std::string& what, const std::string& minor = "1.1") {
    if (!present) fail(MAMBASDK_ERROR_VERSION, "this host takes no " + what + "; it needs ABI " + minor);
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
