#include "abi/plugins.hpp"

#include <dlfcn.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <vector>

#include "abi/convert.hpp"
#include "abi/operations.hpp"
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
};

namespace mambasdk::abi {

namespace {

// Copies as much of a versioned struct as the peer has; the rest is zero.
template <class T>
T read_struct(const T* peer, std::size_t least, std::string_view what) {
  if (peer == nullptr) fail(ErrorCode::invalid_argument, what, " is NULL");
  if (peer->struct_size < least) {
    fail(ErrorCode::version, what, " has struct_size ", peer->struct_size, ", expected at least ", least,
         "; set it to sizeof of the struct");
  }
  T copy{};
  std::memcpy(static_cast<void*>(&copy), peer,
              std::min<std::size_t>(sizeof(T), static_cast<std::size_t>(peer->struct_size)));
  return copy;
}

Isa isa_from_name(std::string_view name, std::string_view plugin) {
  for (int i = 0; i < kIsaCount; ++i) {
    if (name == isa_name(static_cast<Isa>(i))) return static_cast<Isa>(i);
  }
  fail(ErrorCode::unsupported, "plugin ", plugin, " needs the instruction set \"", name,
       "\", which this mambasdk does not know");
}

void check_compatible(const mambasdk_plugin_descriptor& d) {
  const std::string_view name = view(d.name);
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
  if (const std::string_view isa = view(d.requires_isa); !isa.empty() && isa_from_name(isa, name) > active_isa()) {
    fail(ErrorCode::unsupported, "plugin ", name, " needs ", isa, "; this machine offers ", isa_name(active_isa()));
  }
}

void commit(mambasdk_registrar& staged) {
  // Everything that can be refused is looked at before anything becomes visible.
  std::map<std::string, const Op*, std::less<>> own;
  for (const auto& op : staged.ops) {
    const std::string& name = op->signature.name;
    if (const Op* taken = registry().find(name)) {
      fail(ErrorCode::invalid_argument, "operation ", name, " is already registered by ", taken->origin,
           "; choose another name");
    }
    if (!own.emplace(name, op.get()).second)
      fail(ErrorCode::invalid_argument, "operation ", name, " is registered twice");
  }
  for (const auto& kernel : staged.kernels) {
    const Op* op = registry().find(kernel.op);
    if (op == nullptr) {
      const auto found = own.find(kernel.op);
      if (found != own.end()) op = found->second;
    }
    if (op == nullptr) fail(ErrorCode::not_found, "kernel for unknown operation ", kernel.op);
    if (op->kernels.contains(kernel.device)) {
      fail(ErrorCode::invalid_argument, "operation ", kernel.op, " already has a kernel for device type ",
           static_cast<int>(kernel.device));
    }
  }
  for (auto& op : staged.ops) registry().add(std::move(op));
  for (auto& kernel : staged.kernels) registry().add_kernel(kernel.op, kernel.device, std::move(kernel.kernel));
}

std::string describe(const mambasdk_plugin_descriptor& d, std::string_view origin, const mambasdk_registrar& staged) {
  nlohmann::ordered_json j = {
      {"name", view(d.name)}, {"version", view(d.version)}, {"abi", {d.abi_major, d.abi_minor}}, {"origin", origin}};
  j["ops"] = nlohmann::ordered_json::array();
  for (const auto& op : staged.ops) j["ops"].push_back(op->signature.name);
  j["kernels"] = nlohmann::ordered_json::array();
  for (const auto& kernel : staged.kernels) j["kernels"].push_back(kernel.op);
  return j.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::mutex loading;  // plugins load one at a time
std::map<std::string, std::string>& loaded() {
  static auto* table = new std::map<std::string, std::string>;  // origin -> description
  return *table;
}

mambasdk_string register_descriptor(const mambasdk_plugin_descriptor* raw, const std::string& origin) {
  // Name, version and requirements came with ABI 1.0, so that much must be there.
  const auto d = read_struct(raw, sizeof(mambasdk_plugin_descriptor), "plugin descriptor of " + origin);
  check_compatible(d);
  mambasdk_registrar staged{std::string(view(d.name)), {}, {}};
  if (const mambasdk_status* status = d.initialize(mambasdk_get_api(d.abi_major, d.abi_minor), &staged)) {
    throw_status(status);
  }
  std::string text = describe(d, origin, staged);
  commit(staged);
  return view(std::string_view(loaded().emplace(origin, std::move(text)).first->second));
}

}  // namespace

mambasdk_status* plugin_register(const mambasdk_plugin_descriptor* descriptor, mambasdk_string origin,
                                 mambasdk_string* description) {
  return guard(view(origin), [&] {
    const std::lock_guard lock(loading);
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
    const std::lock_guard lock(loading);
    if (const auto found = loaded().find(path); found != loaded().end()) {
      if (description != nullptr) *description = view(std::string_view(found->second));
      return;
    }
    // Never unloaded: its kernels and static data stay in use.
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) fail(ErrorCode::io, "cannot load plugin: ", dlerror());
    const auto query = reinterpret_cast<mambasdk_plugin_fn>(dlsym(library, "mambasdk_plugin"));
    if (query == nullptr) {
      fail(ErrorCode::invalid_argument, path, " exports no mambasdk_plugin function, so it is no mambasdk plugin");
    }
    const mambasdk_string text = register_descriptor(query(), path);
    if (description != nullptr) *description = text;
  });
}

mambasdk_status* register_op(mambasdk_registrar* registrar, const mambasdk_op_definition* definition) {
  return guard(registrar != nullptr ? registrar->origin : "register_op", [&] {
    if (registrar == nullptr) fail(ErrorCode::invalid_argument, "the registrar is NULL");
    const auto d = read_struct(definition, sizeof(mambasdk_op_definition), "op definition");
    auto op = std::make_unique<Op>();
    op->signature = Signature::parse(view(d.signature));
    op->doc = std::string(view(d.doc));
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
    if (registrar == nullptr || kernel == nullptr) fail(ErrorCode::invalid_argument, "registrar or kernel is NULL");
    if (device_type != 1 && device_type != 2) {
      fail(ErrorCode::unsupported, "device type ", device_type, "; 1 (CPU) and 2 (CUDA) are known");
    }
    registrar->kernels.push_back({std::string(view(op)), static_cast<Device>(device_type), wrap_kernel(kernel, self)});
  });
}

}  // namespace mambasdk::abi
