#include "abi/plugins.hpp"

#include <dlfcn.h>

#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "abi/catalogue.hpp"
#include "abi/convert.hpp"
#include "abi/devices.hpp"
#include "abi/engines.hpp"
#include "abi/heads.hpp"
#include "abi/operations.hpp"
#include "abi/version_range.hpp"
#include "core/registry.hpp"
#include "mambasdk/plugin/json.hpp"
#include "ops/builtin.hpp"
#include "runtime/engine/engines.hpp"
#include "runtime/package/json.hpp"

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
  std::vector<std::unique_ptr<const mambasdk::DeviceBackend>> devices;
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
    if (op->kernels.find(kernel.device) != nullptr || !kernels.emplace(kernel.op, kernel.device).second) {
      fail(ErrorCode::invalid_argument, "operation ", kernel.op, " already has a kernel for ",
           device_name(kernel.device));
    }
  }
  const auto not_taken = [](const auto&) -> const std::string* { return nullptr; };  // refusal_of_device says
  check_new(staged.devices, [](const auto& d) { return concat("device ", d->name()); }, not_taken);
  check_new(
      staged.devices, [](const auto& d) { return concat("device type ", static_cast<int>(d->type())); }, not_taken);
  for (const auto& device : staged.devices) {
    const std::string refused = refusal_of_device(static_cast<std::int32_t>(device->type()), device->name());
    if (!refused.empty()) fail(ErrorCode::invalid_argument, refused);
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
  for (auto& device : staged.devices) add_device(std::move(device));
  for (auto& op : staged.ops) registry().add(std::move(op));
  for (auto& kernel : staged.kernels) registry().add_kernel(kernel.op, kernel.device, std::move(kernel.kernel));
  for (auto& engine : staged.engines) runtime::add_engine(std::move(engine));
  for (auto& kind : staged.processors) runtime::add_processor(std::move(kind));
}

std::string describe(const mambasdk_plugin_descriptor& d, std::string_view origin, const mambasdk_registrar& staged) {
  plugin::JsonWriter w;
  w.open('{');
  w.key("name").string(view(d.name));
  w.key("version").string(view(d.version));
  w.key("abi");
  w.open('[');
  w.number(d.abi_major);
  w.number(d.abi_minor);
  w.close(']');
  w.key("origin").string(origin);
  const auto list = [&](std::string_view key, const auto& items, const auto& name_of) {
    w.key(key);
    w.open('[');
    for (const auto& item : items) {
      if (const std::string* name = name_of(item)) w.string(*name);
    }
    w.close(']');
  };
  list("ops", staged.ops, [](const auto& op) { return &op->signature.name; });
  list("kernels", staged.kernels, [](const auto& kernel) { return &kernel.op; });
  w.key("devices");
  w.open('[');
  for (const auto& device : staged.devices) w.string(device->name());
  w.close(']');
  list("engines", staged.engines, [](const auto& engine) { return &engine.name; });
  for (const runtime::Role role : {runtime::Role::processor, runtime::Role::head}) {
    list(role == runtime::Role::processor ? "processors" : "heads", staged.processors,
         [role](const auto& kind) { return kind.role == role ? &kind.kind : nullptr; });
  }
  w.close('}');
  return w.take();
}

struct Loaded {
  std::mutex mutex;                                        // plugins load one at a time
  std::deque<std::string> texts;                           // descriptions that were handed out; they stay
  std::map<std::string, const std::string*> descriptions;  // by origin
  std::map<void*, std::string> origins;                    // by library: one that has two paths is one plugin
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
  const std::string& kept = loaded().texts.emplace_back(std::move(text));
  loaded().descriptions.insert_or_assign(origin, &kept);
  return view(std::string_view(kept));
}

}  // namespace

mambasdk_status* plugin_register(const mambasdk_plugin_descriptor* descriptor, mambasdk_string origin,
                                 mambasdk_string* description) {
  return guard(name_or_empty(origin), [&] {
    const LoadingLock lock;
    const mambasdk_string text = register_descriptor(descriptor, std::string(checked_text(origin, "the origin")));
    if (description != nullptr) *description = text;
  });
}

mambasdk_status* plugin_load(mambasdk_string absolute_path, mambasdk_string* description) {
  return guard(name_or_empty(absolute_path), [&] {
    const std::string path(checked_path(absolute_path, "the plugin's path"));
    if (path.empty() || path.front() != '/') {
      fail(ErrorCode::invalid_argument, "plugin path \"", runtime::printable(path),
           "\" is not absolute; give the full path of the library");
    }
    const LoadingLock lock;
    const auto known = [&](const std::string& origin) {
      const auto found = loaded().descriptions.find(origin);
      if (found == loaded().descriptions.end()) return false;
      if (description != nullptr) *description = view(std::string_view(*found->second));
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

std::string_view origin_of(const mambasdk_registrar* registrar, std::string_view otherwise) noexcept {
  return registrar != nullptr ? std::string_view(registrar->origin) : otherwise;
}

}  // namespace

mambasdk_status* register_op(mambasdk_registrar* registrar, const mambasdk_op_definition* definition) {
  return guard(origin_of(registrar, "register_op"), [&] {
    require(registrar, "the registrar");
    const auto d = read_struct(definition, sizeof(mambasdk_op_definition), "op definition");
    auto op = std::make_unique<Op>();
    op->signature = Signature::parse(checked_text(d.signature, "the signature"));
    op->doc = std::string(checked_text(d.doc, "the doc"));
    op->origin = registrar->origin;
    if (d.check != nullptr) op->check = wrap_kernel(d.check, d.self);
    if (d.reference != nullptr) op->reference = wrap_kernel(d.reference, d.self);
    if (d.cpu != nullptr) op->kernels.add(Device::cpu, wrap_kernel(d.cpu, d.self));
    if (!op->reference && d.cpu == nullptr) {
      fail(ErrorCode::invalid_argument, "operation ", op->signature.name, " has no kernel; set reference or cpu");
    }
    registrar->ops.push_back(std::move(op));
  });
}

mambasdk_status* register_kernel(mambasdk_registrar* registrar, mambasdk_string op, std::int32_t device_type,
                                 mambasdk_kernel_fn kernel, void* self) {
  return guard(origin_of(registrar, "register_kernel"), [&] {
    require(registrar, "the registrar");
    if (kernel == nullptr) fail(ErrorCode::invalid_argument, "the kernel is NULL");
    if (!is_device_type(device_type)) {
      fail(ErrorCode::unsupported, "device type ", device_type, ", expected DLPack's number of a device, 1 to ",
           kDeviceTypes - 1);
    }
    registrar->kernels.push_back(
        {std::string(checked_text(op, "the operation")), static_cast<Device>(device_type), wrap_kernel(kernel, self)});
  });
}

mambasdk_status* register_device(mambasdk_registrar* registrar, const mambasdk_device_definition* definition) {
  return guard(origin_of(registrar, "register_device"), [&] {
    require(registrar, "the registrar");
    registrar->devices.push_back(wrap_device(definition, registrar->origin));
  });
}

mambasdk_status* register_engine(mambasdk_registrar* registrar, const mambasdk_engine_definition* definition) {
  return guard(origin_of(registrar, "register_engine"), [&] {
    require(registrar, "the registrar");
    registrar->engines.push_back(wrap_engine(definition, registrar->origin));
  });
}

mambasdk_status* register_processor(mambasdk_registrar* registrar, std::int32_t role,
                                    const mambasdk_processor_definition* definition) {
  return guard(origin_of(registrar, "register_processor"), [&] {
    require(registrar, "the registrar");
    registrar->processors.push_back(wrap_processor(role, definition, registrar->origin));
  });
}

}  // namespace mambasdk::abi
