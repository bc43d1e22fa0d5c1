#include "abi/heads.hpp"

#include <cstddef>
#include <exception>

#include "abi/convert.hpp"
#include "abi/models.hpp"

namespace mambasdk::abi {

namespace {

// What a part may emit to, for the time of one run.
struct Emitter {
  runtime::Result& result;
  std::string_view kind;
};

mambasdk_status* emit(void* user, mambasdk_string name, mambasdk_managed_tensor* tensor) {
  auto& emitter = *static_cast<Emitter*>(user);
  return guard(emitter.kind, [&] {
    // The tensor is taken first: it is ours also when the name is refused.
    runtime::OwnedTensor owned = take_tensor(tensor, "an emitted tensor");
    emitter.result.add(std::string(checked_text(name, "an emitted tensor's name")), std::move(owned));
  });
}

// An instance that a definition made.
class Instance {
 public:
  Instance(const mambasdk_processor_definition& definition, std::string kind, std::string_view config,
           std::string_view directory)
      : definition_(definition), kind_(std::move(kind)) {
    check_status(definition_.create(definition_.self, view(config), view(directory), &instance_));
  }
  ~Instance() { definition_.release(definition_.self, instance_); }
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  void run(const Context& context, std::span<const runtime::NamedTensor> inputs, runtime::Result& result) {
    const NamedToAbi given(inputs);
    const mambasdk_context c = to_abi(context);
    Emitter emitter{result, kind_};
    check_status(definition_.run(definition_.self, instance_, &c, given.data(), given.size(), emit, &emitter));
  }
  void attach(const mambasdk_head_model& model) {
    if (definition_.attach != nullptr) check_status(definition_.attach(definition_.self, instance_, &model));
  }
  void drive(const runtime::HeadRun& run, const mambasdk_head_model& model, runtime::Result& result) {
    const std::vector<runtime::NamedTensor> inputs = run.inputs();
    const NamedToAbi given(inputs);
    const mambasdk_context c = to_abi(run.context);
    Emitter emitter{result, kind_};
    Written written{run.on_text, {}};
    const mambasdk_head_run call{sizeof(call), &c,   &model,   given.data(),
                                 given.size(), emit, &emitter, run.on_text ? &Written::take : nullptr,
                                 &written};
    const mambasdk_status* status = definition_.drive(definition_.self, instance_, &call);
    if (written.thrown) {
      release_status(const_cast<mambasdk_status*>(status));
      std::rethrow_exception(written.thrown);
    }
    check_status(status);
  }
  void reset() {
    if (definition_.reset != nullptr) check_status(definition_.reset(definition_.self, instance_));
  }
  [[nodiscard]] bool can_run() const noexcept { return definition_.run != nullptr; }

 private:
  // Where a head's text goes. What the receiver throws waits here until the head has returned.
  struct Written {
    const std::function<bool(std::string_view)>& on_text;
    std::exception_ptr thrown;

    static std::int32_t take(void* user, mambasdk_string text) {
      auto& written = *static_cast<Written*>(user);
      try {
        return written.on_text(checked_text(text, "the head's text")) ? 0 : 1;
      } catch (...) {
        written.thrown = std::current_exception();
        return MAMBASDK_TEXT_FAILED;
      }
    }
  };

  mambasdk_processor_definition definition_;
  std::string kind_;
  void* instance_ = nullptr;
};

class WrappedProcessor final : public runtime::Processor {
 public:
  template <class... Args>
  explicit WrappedProcessor(const Args&... args) : instance_(args...) {}
  void run(const Context& context, std::span<const runtime::NamedTensor> inputs, runtime::Result& result) override {
    instance_.run(context, inputs, result);
  }
  void reset() override { instance_.reset(); }

 private:
  Instance instance_;
};

// The runtime's model of a head as the head gets it.
class ModelHandles {
 public:
  explicit ModelHandles(const runtime::HeadModel& model) {
    model_.model = model.model().shared_from_this();
    model_.description = describe(model.model());
    session_.model = model_.model;
    session_.session = {std::shared_ptr<void>(), &model.session()};  // the pipeline owns it
    names_ = {model.model().inputs(), model.model().outputs()};
    add(names_.inputs, inputs_);
    add(names_.outputs, outputs_);
    c_ = {sizeof(c_), &model_, &session_, inputs_.data(), inputs_.size(), outputs_.data(), outputs_.size()};
  }
  ModelHandles(const ModelHandles&) = delete;
  ModelHandles& operator=(const ModelHandles&) = delete;
  [[nodiscard]] const mambasdk_head_model& c() const noexcept { return c_; }

 private:
  void add(const std::vector<runtime::TensorSpec>& specs, std::vector<mambasdk_tensor_spec>& out) {
    for (const runtime::TensorSpec& spec : specs) {
      auto extents = std::make_unique<std::int64_t[]>(spec.shape.size());
      for (std::size_t i = 0; i < spec.shape.size(); ++i) {
        extents[i] = spec.shape[i].symbol.empty() ? spec.shape[i].size : -1;
      }
      DType dtype{};
      const bool known = dtype_from_name(spec.dtype.c_str(), dtype);
      out.push_back({view(std::string_view(spec.name)),
                     {dtype.code, dtype.bits, static_cast<std::uint16_t>(known ? 1 : 0)},
                     static_cast<std::int32_t>(spec.shape.size()),
                     extents.get()});
      shapes_.push_back(std::move(extents));
    }
  }

  struct {
    std::vector<runtime::TensorSpec> inputs, outputs;
  } names_;
  mambasdk_model model_;
  mambasdk_session session_;
  std::vector<std::unique_ptr<std::int64_t[]>> shapes_;
  std::vector<mambasdk_tensor_spec> inputs_, outputs_;
  mambasdk_head_model c_{};
};

// A head whose definition has `drive`.
class WrappedHead final : public runtime::Head {
 public:
  template <class... Args>
  explicit WrappedHead(const Args&... args) : instance_(args...) {}

  void attach(const runtime::HeadModel& model) override {
    model_ = std::make_unique<ModelHandles>(model);
    instance_.attach(model_->c());
  }
  void run(const runtime::HeadRun& run, runtime::Result& result) override {
    if (run.model == nullptr) return instance_.run(run.context, run.inputs(), result);
    instance_.drive(run, model_->c(), result);
  }
  void reset() override { instance_.reset(); }
  bool works_alone() const noexcept override { return instance_.can_run(); }

 private:
  std::unique_ptr<ModelHandles> model_;
  Instance instance_;  // goes first
};

}  // namespace

runtime::Role role_of(std::int32_t role) {
  if (role == MAMBASDK_PROCESSOR) return runtime::Role::processor;
  if (role == MAMBASDK_HEAD) return runtime::Role::head;
  fail(ErrorCode::invalid_argument, "role is ", role, ", expected 0 (processor) or 1 (head)");
}

runtime::ProcessorKind wrap_processor(std::int32_t role, const mambasdk_processor_definition* definition,
                                      std::string_view origin) {
  constexpr std::size_t kSize_1_1 = offsetof(mambasdk_processor_definition, drive);
  const auto d = read_struct(definition, kSize_1_1, "processor definition");
  runtime::ProcessorKind kind{.role = role_of(role),
                              .kind = std::string(checked_text(d.kind, "the kind")),
                              .doc = std::string(checked_text(d.doc, "the doc")),
                              .origin = std::string(origin)};
  if (kind.kind.empty()) fail(ErrorCode::invalid_argument, "a processor must have a kind");
  const bool drives = d.drive != nullptr;
  if (drives && kind.role == runtime::Role::processor) {
    fail(ErrorCode::invalid_argument, "processor ", kind.kind, " has drive, which only a head may have");
  }
  if (d.create == nullptr || d.release == nullptr || (d.run == nullptr && !drives)) {
    fail(ErrorCode::invalid_argument, runtime::role_name(kind.role), " ", kind.kind,
         " lacks one of create, release, run", kind.role == runtime::Role::head ? " (or drive)" : "");
  }
  const auto make = [d, name = kind.kind]<class T>(std::type_identity<T>, std::string_view config,
                                                   std::string_view directory) {
    return std::make_unique<T>(d, name, config, directory);
  };
  if (kind.role == runtime::Role::processor) {
    kind.create = [make](std::string_view config, std::string_view directory) {
      return make(std::type_identity<WrappedProcessor>{}, config, directory);
    };
  } else if (drives) {
    kind.create_head = [make](std::string_view config, std::string_view directory) {
      return make(std::type_identity<WrappedHead>{}, config, directory);
    };
  } else {
    kind.create_head = [make](std::string_view config, std::string_view directory) {
      return runtime::make_one_run_head(make(std::type_identity<WrappedProcessor>{}, config, directory));
    };
  }
  return kind;
}

}  // namespace mambasdk::abi
