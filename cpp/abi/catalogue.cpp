#include "abi/catalogue.hpp"

#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "abi/convert.hpp"
#include "abi/version_range.hpp"
#include "core/device.hpp"
#include "mambasdk/plugin/json.hpp"
#include "runtime/engine/engines.hpp"
#include "runtime/pipeline/kinds.hpp"

namespace mambasdk::abi {

namespace {

struct Catalogue {
  std::mutex mutex;
  std::map<std::string, std::string, std::less<>> components;  // name -> version
  std::vector<std::string> plugins;                            // descriptions, in order of loading
  std::set<std::string> described;                             // every text that was handed out; never freed
};

Catalogue& catalogue() {
  static auto* made = new Catalogue;
  return *made;
}

void add_item(plugin::JsonWriter& w, const char* key, std::string_view name, const char* more_key,
              std::string_view more, std::string_view origin) {
  w.open('{');
  w.key(key).string(name);
  w.key(more_key).string(more);
  w.key("origin").string(origin);
  w.close('}');
}

void add_kinds(plugin::JsonWriter& w, std::string_view key, runtime::Role role) {
  w.key(key);
  w.open('[');
  for (const runtime::ProcessorKind* kind : runtime::list_processors(role)) {
    add_item(w, "kind", kind->kind, "doc", kind->doc, kind->origin);
  }
  w.close(']');
}

}  // namespace

mambasdk_string runtime_describe() {
  return guard_value(mambasdk_string{"{}", 2}, [] {
    Catalogue& c = catalogue();
    plugin::JsonWriter w;
    w.open('{');
    const std::lock_guard lock(c.mutex);
    w.key("plugins");
    w.open('[');
    for (const std::string& plugin : c.plugins) w.json(plugin);
    w.close(']');
    w.key("engines");
    w.open('[');
    for (const runtime::Engine* engine : runtime::list_engines()) {
      add_item(w, "name", engine->name, "doc", engine->doc, engine->origin);
    }
    w.close(']');
    add_kinds(w, "processors", runtime::Role::processor);
    add_kinds(w, "heads", runtime::Role::head);
    w.key("devices");
    w.open('[');
    for (const DeviceBackend* device : list_devices()) {
      w.open('{');
      w.key("name").string(device->name());
      w.key("type").number(static_cast<std::int64_t>(device->type()));
      w.key("count").number(static_cast<std::int64_t>(device->count()));
      w.key("doc").string(device->doc());
      w.key("origin").string(device->origin());
      w.close('}');
    }
    w.close(']');
    w.key("components");
    w.open('[');
    for (const auto& [name, version] : c.components) add_item(w, "name", name, "version", version, "host");
    w.close(']');
    w.close('}');
    const auto text = c.described.insert(w.take()).first;
    return view(std::string_view(*text));
  });
}

mambasdk_status* component_declare(mambasdk_string name, mambasdk_string version) {
  return guard("component_declare", [&] {
    const std::string_view n = checked_text(name, "the name");
    const std::string_view v = checked_text(version, "the version");
    if (n.empty()) fail(ErrorCode::invalid_argument, "a component must have a name, as torch");
    check_version(v, n);
    Catalogue& c = catalogue();
    const std::lock_guard lock(c.mutex);
    const auto [entry, added] = c.components.emplace(std::string(n), std::string(v));
    if (!added && entry->second != v) {
      fail(ErrorCode::invalid_argument, n, " is declared as ", entry->second, " already, now as ", v,
           "; a process has one version of it");
    }
  });
}

std::optional<std::string> component_version(std::string_view name) {
  Catalogue& c = catalogue();
  const std::lock_guard lock(c.mutex);
  const auto found = c.components.find(name);
  return found == c.components.end() ? std::nullopt : std::optional(found->second);
}

void add_plugin_description(std::string json) {
  Catalogue& c = catalogue();
  const std::lock_guard lock(c.mutex);
  c.plugins.push_back(std::move(json));
}

}  // namespace mambasdk::abi
