#include "abi/engines.hpp"

#include <cstddef>

#include "abi/convert.hpp"
#include "abi/engine_state.hpp"
#include "runtime/engine/identity.hpp"
#include "runtime/engine/shapes.hpp"
#include "runtime/package/mapped_file.hpp"

namespace mambasdk::abi {

namespace {

[[noreturn]] void refuse(const mambasdk_engine_definition& engine, std::string_view what) {
  fail(ErrorCode::unsupported, "the engine ", view(engine.name), " cannot ", what, " a session's state");
}

std::vector<runtime::TensorSpec> tensor_specs(const mambasdk_tensor_spec* specs, std::uint64_t count,
                                              const std::string& where) {
  require_array(specs, count, where);
  std::vector<runtime::TensorSpec> out;
  for (std::uint64_t i = 0; i < count; ++i) {
    const mambasdk_tensor_spec& spec = specs[i];
    if (spec.ndim < 0 || spec.ndim > kMaxDims || (spec.ndim > 0 && spec.shape == nullptr)) {
      fail(ErrorCode::invalid_argument, where, ": ", i, " has ", spec.ndim, " dims, expected 0 to ", kMaxDims,
           " and a shape");
    }
    const DType type{spec.dtype.code, spec.dtype.bits};
    // Zero bits: the engine says nothing of the type.
    runtime::TensorSpec read{
        std::string(checked_text(spec.name, where)), type.bits == 0 ? std::string("?") : dtype_name(type), {}};
    for (std::int32_t d = 0; d < spec.ndim; ++d) {
      const std::int64_t extent = spec.shape[d];
      read.shape.push_back(extent < 0 ? runtime::Dimension{"?", 0} : runtime::Dimension{"", extent});
    }
    out.push_back(std::move(read));
  }
  return out;
}

using Definition = std::shared_ptr<const mambasdk_engine_definition>;

// A session's context in both forms; clones share it.
struct SessionContext {
  std::unique_ptr<Context> host;
  mambasdk_context c;
  explicit SessionContext(std::unique_ptr<Context> given) : host(std::move(given)), c(to_abi(*host)) {}
};

class EngineModel final : public runtime::Model {
 public:
  EngineModel(runtime::Package package, Definition engine, std::string_view manifest,
              const runtime::LoadOptions& options)
      : Model(std::move(package)), engine_(std::move(engine)), identity_(runtime::state_identity(this->package(), "")) {
    const std::string directory = std::filesystem::absolute(this->package().directory()).string();
    const mambasdk_package given{sizeof(given),      view(std::string_view(directory)), view(manifest),
                                 options.max_memory, options.allow_code ? 1 : 0,        0};
    check_status(engine_->model_load(engine_->self, &given, &model_));
    try {
      read_tensors();
    } catch (...) {
      engine_->model_release(engine_->self, model_);
      throw;
    }
  }
  ~EngineModel() override { engine_->model_release(engine_->self, model_); }
  EngineModel(const EngineModel&) = delete;
  EngineModel& operator=(const EngineModel&) = delete;

  [[nodiscard]] std::vector<runtime::TensorSpec> inputs() const override { return inputs_; }
  [[nodiscard]] std::vector<runtime::TensorSpec> outputs() const override { return outputs_; }
  [[nodiscard]] std::vector<runtime::StateSpec> states() const override {
    return runtime::state_specs(package().manifest().states);
  }
  [[nodiscard]] std::unique_ptr<runtime::Session> new_session(std::unique_ptr<Context> context) const override;
  [[nodiscard]] const mambasdk_engine_definition& engine() const noexcept { return *engine_; }
  [[nodiscard]] const runtime::StateIdentity& identity() const noexcept { return identity_; }
  // What the manifest states of an output; null where it does not list it.
  [[nodiscard]] const runtime::TensorSpec* stated(std::string_view output) const {
    const auto found =
        std::find_if(outputs_.begin(), outputs_.end(), [&](const auto& spec) { return spec.name == output; });
    return found == outputs_.end() || found->dtype == "?" ? nullptr : &*found;
  }

 private:
  // The manifest's, else the engine's.
  void read_tensors() {
    inputs_ = package().manifest().inputs;
    outputs_ = package().manifest().outputs;
    if (engine_->model_tensors == nullptr || !inputs_.empty() || !outputs_.empty()) return;
    const mambasdk_tensor_spec *inputs = nullptr, *outputs = nullptr;
    std::uint64_t input_count = 0, output_count = 0;
    check_status(engine_->model_tensors(engine_->self, model_, &inputs, &input_count, &outputs, &output_count));
    inputs_ = tensor_specs(inputs, input_count, concat("engine ", view(engine_->name), ": inputs"));
    outputs_ = tensor_specs(outputs, output_count, concat("engine ", view(engine_->name), ": outputs"));
  }

  Definition engine_;
  runtime::StateIdentity identity_;
  std::vector<runtime::TensorSpec> inputs_, outputs_;
  void* model_ = nullptr;
};

class EngineSession final : public runtime::Session {
 public:
  EngineSession(std::shared_ptr<const EngineModel> model, std::shared_ptr<SessionContext> context, void* session)
      : model_(std::move(model)), context_(std::move(context)), session_(session) {}
  ~EngineSession() override { engine().session_release(engine().self, session_); }
  EngineSession(const EngineSession&) = delete;
  EngineSession& operator=(const EngineSession&) = delete;

  std::vector<runtime::OwnedTensor> run(std::span<const runtime::NamedTensor> inputs,
                                        std::span<const std::string_view> outputs) override {
    if (context_->host->is_cancelled()) fail(ErrorCode::cancelled, "cancelled before the engine's run");
    const NamedToAbi given(inputs);
    std::vector<mambasdk_string> names;
    for (const std::string_view name : outputs) names.push_back(view(name));
    std::vector<mambasdk_managed_tensor*> made(outputs.size(), nullptr);
    check_status(engine().session_run(engine().self, session_, given.data(), given.size(), names.data(), names.size(),
                                      made.data()));
    std::vector<runtime::OwnedTensor> results;
    std::exception_ptr failed;  // every tensor is taken, also after one that is refused
    for (std::size_t i = 0; i < made.size(); ++i) {
      try {
        results.push_back(take_tensor(made[i], concat("engine ", view(engine().name), ": output ", outputs[i])));
      } catch (...) {
        failed = std::current_exception();
      }
    }
    if (failed) std::rethrow_exception(failed);
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (const runtime::TensorSpec* spec = model_->stated(outputs[i])) {
        runtime::check_output(*spec, results[i].view, {});
      }
    }
    return results;
  }

  void reset() override {
    if (engine().session_reset != nullptr) check_status(engine().session_reset(engine().self, session_));
  }

  std::unique_ptr<runtime::Session> clone() const override {
    if (engine().session_clone == nullptr) refuse(engine(), "clone");
    void* copy = nullptr;
    check_status(engine().session_clone(engine().self, session_, &copy));
    return std::make_unique<EngineSession>(model_, context_, copy);
  }

  std::vector<std::byte> save() const override {
    if (engine().session_save == nullptr) refuse(engine(), "save");
    std::uint64_t size = 0;
    check_status(engine().session_save(engine().self, session_, nullptr, 0, &size));
    std::vector<std::byte> image(static_cast<std::size_t>(size));
    std::byte none{};
    check_status(engine().session_save(engine().self, session_, image.empty() ? &none : image.data(), size, &size));
    if (size != image.size()) {
      fail(ErrorCode::internal, "the engine ", view(engine().name), " saved ", size, " bytes after it had announced ",
           image.size());
    }
    return wrap_state(image, model_->identity(), engine().name);
  }

  void restore(std::span<const std::byte> image) override {
    if (engine().session_restore == nullptr) refuse(engine(), "restore");
    const std::span<const std::byte> own = unwrap_state(image, model_->identity(), engine().name);
    const std::byte none{};
    check_status(engine().session_restore(engine().self, session_, own.empty() ? &none : own.data(), own.size()));
  }

  // By a clone, whose session takes the place of this one's.
  std::unique_ptr<runtime::Snapshot> snapshot() const override {
    if (engine().session_reset == nullptr || engine().session_clone == nullptr) return nullptr;
    auto made = std::make_unique<Kept>(model_);
    check_status(engine().session_clone(engine().self, session_, &made->session));
    return made;
  }
  void roll_back(std::unique_ptr<runtime::Snapshot> snapshot) noexcept override {
    std::swap(session_, static_cast<Kept&>(*snapshot).session);
  }

 private:
  struct Kept final : runtime::Snapshot {
    explicit Kept(std::shared_ptr<const EngineModel> of) : model(std::move(of)) {}
    ~Kept() override {
      if (session != nullptr) model->engine().session_release(model->engine().self, session);
    }
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;
    std::shared_ptr<const EngineModel> model;
    void* session = nullptr;
  };

  [[nodiscard]] const mambasdk_engine_definition& engine() const noexcept { return model_->engine(); }

  std::shared_ptr<const EngineModel> model_;
  std::shared_ptr<SessionContext> context_;
  void* session_;
};

std::unique_ptr<runtime::Session> EngineModel::new_session(std::unique_ptr<Context> context) const {
  auto shared = std::make_shared<SessionContext>(std::move(context));
  void* session = nullptr;
  check_status(engine_->session_create(engine_->self, model_, &shared->c, &session));
  return std::make_unique<EngineSession>(std::static_pointer_cast<const EngineModel>(shared_from_this()),
                                         std::move(shared), session);
}

}  // namespace

runtime::Engine wrap_engine(const mambasdk_engine_definition* definition, std::string_view origin) {
  constexpr std::size_t kSize_1_1 = offsetof(mambasdk_engine_definition, executes_code);
  const auto d = read_struct(definition, kSize_1_1, "engine definition");
  const std::string_view name = checked_text(d.name, "the engine's name");
  if (name.empty()) fail(ErrorCode::invalid_argument, "an engine must have a name");
  if (d.model_load == nullptr || d.model_release == nullptr || d.session_create == nullptr ||
      d.session_release == nullptr || d.session_run == nullptr) {
    fail(ErrorCode::invalid_argument, "engine ", name,
         " lacks one of model_load, model_release, session_create, session_release, session_run");
  }
  if ((d.session_save == nullptr) != (d.session_restore == nullptr)) {
    fail(ErrorCode::invalid_argument, "engine ", name, " has only one of session_save and session_restore");
  }
  runtime::Engine engine{
      std::string(name), std::string(checked_text(d.doc, "the engine's doc")), std::string(origin), {}};
  // The definition's own text may go; the name lives in the copy that the loader keeps.
  struct Kept {
    std::string name;
    mambasdk_engine_definition definition;
  };
  auto kept = std::make_shared<Kept>(Kept{engine.name, d});
  kept->definition.name = view(std::string_view(kept->name));
  kept->definition.doc = {};
  engine.executes_code = d.executes_code != 0;
  engine.load = [kept](runtime::Package package,
                       const runtime::LoadOptions& options) -> std::shared_ptr<const runtime::Model> {
    const std::string manifest =
        runtime::read_text_file(package.file_path(runtime::kManifestFile), std::size_t{16} << 20);
    return std::make_shared<const EngineModel>(std::move(package), Definition(kept, &kept->definition), manifest,
                                               options);
  };
  return engine;
}

}  // namespace mambasdk::abi
