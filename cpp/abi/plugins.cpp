#include "abi/plugins.hpp"

#include <dlfcn.h>

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "abi/catalogue.hpp"
#include "abi/convert.hpp"
#include "abi/engines.hpp"
#include "abi/operations.hpp"
#include "abi/pipelines.hpp"
#include "abi/version_range.hpp"
#include "core/registry.hpp"
#include "ops/builtin.hpp"

// What a plugin has registered so far; committed as a whole or not at all.
struct mambasdk_registrar {
  struct StagedKernel {
    std::string op;
    mambasdk::Device device;
    mambasdk::Kernel kernel;
  };
  std::string origin;
  std::vector<std::unique_ptr<mambasdk::Op>> ops;
  std::vector<StagedKernel> kernels;
  std::vector<mambasdk::runtime::Engine> engines;
  std::vector<mambasdk::runtime::ProcessorKind> processors;  // heads too
};

namespace mambasdk::abi {

namespace {

Isa isa_from_name(std::string_view name, std::string_view plugin) {
  for (int i = 0; i < kIsaCount; ++i) {
    if (name == isa_name(static_cast<Isa>(i))) return static_cast<Isa>(i);
  }
  fail(ErrorCode::unsupported, "plugin ", plugin, " needs the instruction set \"", name,
       "\", which this mambasdk does not know");
}

void check_component(std::string_view plugin, std::string_view component, std::string_view range) {
  if (range.empty()) return;
  const std::string what = concat("plugin ", plugin, ": requires_", component);
  const std::optional<std::string> version = component_version(component);
  if (!version) {
    (void)version_in_range("0", range, what);  // a range that cannot be read is the plugin's mistake, say that first
    fail(ErrorCode::unsupported, "plugin ", plugin, " needs ", component, " ", range,
         ", and this host has declared none; load it from a host with ", component,
         ", which calls component_declare(\"", component, "\", version) before it loads plugins");
  }
  if (!version_in_range(*version, range, what)) {
    fail(ErrorCode::version, "plugin ", plugin, " needs ", component, " ", range, ", this host has ", *version,
         "; install a ", component, " in that range, or a build of the plugin for ", *version);
  }
}

void check_compatible(const mambasdk_plugin_descriptor& d) {
  const std::string_view name = checked_text(d.name, "the plugin's name");
  (void)checked_text(d.version, concat("plugin ", name, ": version"));
  if (d.abi_major != MAMBASDK_ABI_MAJOR) {
    fail(ErrorCode::version, "plugin ", name, " was built for ABI ", d.abi_major, ".x; this mambasdk has ",
         MAMBASDK_ABI_MAJOR, ".", MAMBASDK_ABI_MINOR,
         d.abi_major > MAMBASDK_ABI_MAJOR ? "; upgrade mambasdk" : "; upgrade the plugin");
  }
  if (d.abi_minor > MAMBASDK_ABI_MINOR) {
    fail(ErrorCode::version, "plugin ", name, " needs at least ABI ", d.abi_major, ".", d.abi_minor,
         "; this mambasdk has ", MAMBASDK_ABI_MAJOR, ".", MAMBASDK_ABI_MINOR, "; upgrade mambasdk");
  }
  if (name.empty()) fail(ErrorCode::invalid_argument, "a plugin must have a name");
  if (d.initialize == nullptr) fail(ErrorCode::invalid_argument, "plugin ", name, " has no initialize function");
  if (const std::string_view isa = checked_text(d.requires_isa, concat("plugin ", name, ": requires_isa"));
      !isa.empty() && isa_from_name(isa, name) > active_isa()) {
    fail(ErrorCode::unsupported, "plugin ", name, " needs ", isa, "; this machine offers ", isa_name(active_isa()));
  }
  check_component(name, "torch", checked_text(d.requires_torch, concat("plugin ", name, ": requires_torch")));
  check_component(name, "cuda", checked_text(d.requires_cuda, concat("plugin ", name, ": requires_cuda")));
}

// Refuses what is here already (taken_by: whose it is) and what the plugin registers twice.
template <class T, class Name, class TakenBy>
void check_new(const std::vector<T>& staged, const Name& name, const TakenBy& taken_by) {
  std::set<std::string> own;
  for (const T& item : staged) {
    if (const std::string* origin = taken_by(item)) {
      fail(ErrorCode::invalid_argument, name(item), " is already registered by ", *origin, "; choose another name");
    }
    if (!own.insert(name(item)).second) fail(ErrorCode::invalid_argument, name(item), " is registered twice");
  }
}

void commit(mambasdk_registrar& staged) {
  // Everything that can be refused is looked at before anything becomes visible.
  check_new(
      staged.ops, [](const auto& op) { return "operation " + op->signature.name; },
      [](const auto& op) {
        const Op* taken = registry().find(op->signature.name);
        return taken == nullptr ? nullptr : &taken->origin;
      });
  std::map<std::string, const Op*, std::less<>> own;
  for (const auto& op : staged.ops) own.emplace(op->signature.name, op.get());
  std::set<std::pair<std::string, Device>> kernels;
  for (const auto& kernel : staged.kernels) {
    const Op* op = registry().find(kernel.op);
    if (op == nullptr) {
      const auto found = own.find(kernel.op);
      if (found != own.end()) op = found->second;
    }
    if (op == nullptr) fail(ErrorCode::not_found, "kernel for unknown operation ", kernel.op);
    if (op->kernels.contains(kernel.device) || !kernels.emplace(kernel.op, kernel.device).second) {
      fail(ErrorCode::invalid_argument, "operation ", kernel.op, " already has a kernel for device type ",
           static_cast<int>(kernel.device));
    }
  }
  check_new(
      staged.engines, [](const runtime::Engine& e) { return "engine " + e.name; },
      [](const runtime::Engine& e) {
        const runtime::Engine* taken = runtime::find_engine(e.name);
        return taken == nullptr ? nullptr : &taken->origin;
      });
  check_new(
      staged.processors,
      [](const runtime::ProcessorKind& p) { return concat(runtime::role_name(p.role), " ", p.kind); },
      [](const runtime::ProcessorKind& p) {
        const runtime::ProcessorKind* taken = runtime::find_processor(p.role, p.kind);
        return taken == nullptr ? nullptr : &taken->origin;
      });
  for (auto& op : staged.ops) registry().add(std::move(op));
  for (auto& kernel : staged.kernels) registry().add_kernel(kernel.op, kernel.device, std::move(kernel.kernel));
  for (auto& engine : staged.engines) runtime::add_engine(std::move(engine));
  for (auto& kind : staged.processors) runtime::add_processor(std::move(kind));
}

std::string describe(const mambasdk_plugin_descriptor& d, std::string_view origin, const mambasdk_registrar& staged) {
  nlohmann::ordered_json j = {
      {"name", view(d.name)}, {"version", view(d.version)}, {"abi", {d.abi_major, d.abi_minor}}, {"origin", origin}};
  j["ops"] = nlohmann::ordered_json::array();
  for (const auto& op : staged.ops) j["ops"].push_back(op->signature.name);
  j["kernels"] = nlohmann::ordered_json::array();
  for (const auto& kernel : staged.kernels) j["kernels"].push_back(kernel.op);
  j["engines"] = nlohmann::ordered_json::array();
  for (const auto& engine : staged.engines) j["engines"].push_back(engine.name);
  j["processors"] = nlohmann::ordered_json::array();
  j["heads"] = nlohmann::ordered_json::array();
  for (const auto& kind : staged.processors) {
    j[kind.role == runtime::Role::processor ? "processors" : "heads"].push_back(kind.kind);
  }
  return j.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

struct Loaded {
  std::mutex mutex;                                 // plugins load one at a time
  std::map<std::string, std::string> descriptions;  // by origin
  std::map<void*, std::string> origins;             // by library: one that has two paths is one plugin
};

Loaded& loaded() {
  static auto* made = new Loaded;
  return *made;
}

// A plugin that loads another from its initialize would wait for itself.
thread_local bool initializing = false;

class LoadingLock {
 public:
  LoadingLock() {
    if (initializing) {
      fail(ErrorCode::unsupported, "a plugin was loaded from another plugin's initialize; load it from the host");
    }
    lock_ = std::unique_lock(loaded().mutex);
    initializing = true;
  }
  ~LoadingLock() { initializing = false; }
  LoadingLock(const LoadingLock&) = delete;
  LoadingLock& operator=(const LoadingLock&) = delete;

 private:
  std::unique_lock<std::mutex> lock_;
};

mambasdk_string register_descriptor(const mambasdk_plugin_descriptor* raw, const std::string& origin) {
  // ABI 1.0 ended with initialize; so much must be there.
  constexpr std::size_t kSize_1_0 = offsetof(mambasdk_plugin_descriptor, requires_torch);
  const auto d = read_struct(raw, kSize_1_0, "plugin descriptor of " + origin);
  check_compatible(d);
  mambasdk_registrar staged;
  staged.origin = std::string(view(d.name));
  if (const mambasdk_status* status = d.initialize(mambasdk_get_api(d.abi_major, d.abi_minor), &staged)) {
    throw_status(status);
  }
  std::string text = describe(d, origin, staged);
  commit(staged);
  add_plugin_description(text);
  return view(std::string_view(loaded().descriptions.insert_or_assign(origin, std::move(text)).first->second));
}

}  // namespace

mambasdk_status* plugin_register(const mambasdk_plugin_descriptor* descriptor, mambasdk_string origin,
                                 mambasdk_string* description) {
  return guard(view(origin), [&] {
    const LoadingLock lock;
    const mambasdk_string text = register_descriptor(descriptor, std::string(view(origin)));
    if (description != nullptr) *description = text;
  });
}

mambasdk_status* plugin_load(mambasdk_string absolute_path, mambasdk_string* description) {
  return guard(view(absolute_path), [&] {
    const std::string path(view(absolute_path));
    if (path.empty() || path.front() != '/') {
      fail(ErrorCode::invalid_argument, "plugin path \"", path,
           "\" is not absolute; give the full path of the library");
    }
    const LoadingLock lock;
    const auto known = [&](const std::string& origin) {
      const auto found = loaded().descriptions.find(origin);
      if (found == loaded().descriptions.end()) return false;
      if (description != nullptr) *description = view(std::string_view(found->second));
      return true;
    };
    if (known(path)) return;
    // Never unloaded: its kernels and static data stay in use.
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) fail(ErrorCode::io, "cannot load plugin: ", dlerror());
    if (const auto found = loaded().origins.find(library); found != loaded().origins.end() && known(found->second)) {
      return;
    }
    const auto query = reinterpret_cast<mambasdk_plugin_fn>(dlsym(library, "mambasdk_plugin"));
    if (query == nullptr) {
      fail(ErrorCode::invalid_argument, path, " exports no mambasdk_plugin function, so it is no mambasdk plugin");
    }
    const mambasdk_string text = register_descriptor(query(), path);
    loaded().origins.emplace(library, path);
    if (description != nullptr) *description = text;
  });
}

namespace {

void require(const mambasdk_registrar* registrar) {
  if (registrar == nullptr) fail(ErrorCode::invalid_argument, "the registrar is NULL");
}

}  // namespace

mambasdk_status* register_op(mambasdk_registrar* registrar, const mambasdk_op_definition* definition) {
  return guard(registrar != nullptr ? registrar->origin : "register_op", [&] {
    require(registrar);
    const auto d = read_struct(definition, sizeof(mambasdk_op_definition), "op definition");
    auto op = std::make_unique<Op>();
    op->signature = Signature::parse(checked_text(d.signature, "the signature"));
    op->doc = std::string(checked_text(d.doc, "the doc"));
    op->origin = registrar->origin;
    if (d.check != nullptr) op->check = wrap_kernel(d.check, d.self);
    if (d.reference != nullptr) op->reference = wrap_kernel(d.reference, d.self);
    if (d.cpu != nullptr) op->kernels[Device::cpu] = wrap_kernel(d.cpu, d.self);
    if (!op->reference && op->kernels.empty()) {
      fail(ErrorCode::invalid_argument, "operation ", op->signature.name, " has no kernel; set reference or cpu");
    }
    registrar->ops.push_back(std::move(op));
  });
}

mambasdk_status* register_kernel(mambasdk_registrar* registrar, mambasdk_string op, std::int32_t device_type,
                                 mambasdk_kernel_fn kernel, void* self) {
  return guard(registrar != nullptr ? registrar->origin : "register_kernel", [&] {
    require(registrar);
    if (kernel == nullptr) fail(ErrorCode::invalid_argument, "the kernel is NULL");
    if (device_type != 1 && device_type != 2) {
      fail(ErrorCode::unsupported, "device type ", device_type, "; 1 (CPU) and 2 (CUDA) are known");
    }
    registrar->kernels.push_back(
        {std::string(checked_text(op, "the operation")), static_cast<Device>(device_type), wrap_kernel(kernel, self)});
  });
}

mambasdk_status* register_engine(mambasdk_registrar* registrar, const mambasdk_engine_definition* definition) {
  return guard(registrar != nullptr ? registrar->origin : "register_engine", [&] {
    require(registrar);
    registrar->engines.push_back(wrap_engine(definition, registrar->origin));
  });
}

mambasdk_status* register_processor(mambasdk_registrar* registrar, std::int32_t role,
                                    const mambasdk_processor_definition* definition) {
  return guard(registrar != nullptr ? registrar->origin : "register_processor", [&] {
    require(registrar);
    registrar->processors.push_back(wrap_processor(role, definition, registrar->origin));
  });
}

}  // namespace mambasdk::abi
