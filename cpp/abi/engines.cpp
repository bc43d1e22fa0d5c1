#include "abi/engines.hpp"

#include <dlfcn.h>

#include "abi/convert.hpp"
#include "abi/plugins.hpp"
#include "runtime/package/mapped_file.hpp"

namespace mambasdk::abi {

namespace {

void check(const mambasdk_status* status) {
  if (status != nullptr) throw_status(status);
}

[[noreturn]] void refuse(const mambasdk_engine_definition& engine, std::string_view what) {
  fail(ErrorCode::unsupported, "the engine ", view(engine.name), " cannot ", what, " a session's state");
}

using Definition = std::shared_ptr<const mambasdk_engine_definition>;

// A session's context in both forms; clones share it.
struct SessionContext {
  std::unique_ptr<Context> host;
  mambasdk_context c;
  explicit SessionContext(std::unique_ptr<Context> given) : host(std::move(given)), c(to_abi(*host, host->device())) {}
};

class EngineModel final : public runtime::Model {
 public:
  EngineModel(runtime::Package package, Definition engine, std::string_view manifest)
      : Model(std::move(package)), engine_(std::move(engine)) {
    const std::string directory = std::filesystem::absolute(this->package().directory()).string();
    const mambasdk_package given{sizeof(given), view(std::string_view(directory)), view(manifest)};
    check(engine_->model_load(engine_->self, &given, &model_));
  }
  ~EngineModel() override { engine_->model_release(engine_->self, model_); }
  EngineModel(const EngineModel&) = delete;
  EngineModel& operator=(const EngineModel&) = delete;

  [[nodiscard]] std::vector<runtime::StateSpec> states() const override {
    return runtime::state_specs(package().manifest().states);
  }
  [[nodiscard]] std::unique_ptr<runtime::Session> new_session(std::unique_ptr<Context> context) const override;
  [[nodiscard]] const mambasdk_engine_definition& engine() const noexcept { return *engine_; }
  [[nodiscard]] void* handle() const noexcept { return model_; }

 private:
  Definition engine_;
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
    check(engine().session_run(engine().self, session_, given.data(), given.size(), names.data(), names.size(),
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
    return results;
  }

  void reset() override {
    if (engine().session_reset != nullptr) check(engine().session_reset(engine().self, session_));
  }

  std::unique_ptr<runtime::Session> clone() const override {
    if (engine().session_clone == nullptr) refuse(engine(), "clone");
    void* copy = nullptr;
    check(engine().session_clone(engine().self, session_, &copy));
    return std::make_unique<EngineSession>(model_, context_, copy);
  }

  std::vector<std::byte> save() const override {
    if (engine().session_save == nullptr) refuse(engine(), "save");
    std::uint64_t size = 0;
    check(engine().session_save(engine().self, session_, nullptr, 0, &size));
    std::vector<std::byte> image(static_cast<std::size_t>(size));
    std::byte none{};
    check(engine().session_save(engine().self, session_, image.empty() ? &none : image.data(), size, &size));
    if (size != image.size()) {
      fail(ErrorCode::internal, "the engine ", view(engine().name), " saved ", size, " bytes after it had announced ",
           image.size());
    }
    return image;
  }

  void restore(std::span<const std::byte> image) override {
    if (engine().session_restore == nullptr) refuse(engine(), "restore");
    check(engine().session_restore(engine().self, session_, image.data(), image.size()));
  }

 private:
  [[nodiscard]] const mambasdk_engine_definition& engine() const noexcept { return model_->engine(); }

  std::shared_ptr<const EngineModel> model_;
  std::shared_ptr<SessionContext> context_;
  void* session_;
};

std::unique_ptr<runtime::Session> EngineModel::new_session(std::unique_ptr<Context> context) const {
  auto shared = std::make_shared<SessionContext>(std::move(context));
  void* session = nullptr;
  check(engine_->session_create(engine_->self, model_, &shared->c, &session));
  return std::make_unique<EngineSession>(std::static_pointer_cast<const EngineModel>(shared_from_this()),
                                         std::move(shared), session);
}

}  // namespace

runtime::Engine wrap_engine(const mambasdk_engine_definition* definition, std::string_view origin) {
  // All members came with ABI 1.1.
  const auto d = read_struct(definition, sizeof(mambasdk_engine_definition), "engine definition");
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
  engine.load = [kept](runtime::Package package) -> std::shared_ptr<const runtime::Model> {
    const std::string manifest =
        runtime::read_text_file(package.file_path(runtime::kManifestFile), std::size_t{16} << 20);
    return std::make_shared<const EngineModel>(std::move(package), Definition(kept, &kept->definition), manifest);
  };
  return engine;
}

void load_bundled_engine(std::string_view name) {
#if defined(__APPLE__)
  constexpr std::string_view file = "libmambasdk_aoti.dylib";
#else
  constexpr std::string_view file = "libmambasdk_aoti.so";
#endif
  Dl_info info{};
  if (name != "aoti" || dladdr(reinterpret_cast<const void*>(&load_bundled_engine), &info) == 0) return;
  std::error_code error;
  const std::filesystem::path self = std::filesystem::canonical(info.dli_fname, error);
  const std::string path = (self.parent_path() / file).string();
  if (error || !std::filesystem::exists(path, error)) return;
  check(plugin_load(view(std::string_view(path)), nullptr));
}

}  // namespace mambasdk::abi
