#include "abi/catalogue.hpp"

#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "abi/convert.hpp"
#include "abi/version_range.hpp"
#include "runtime/pipeline/processor.hpp"

namespace mambasdk::abi {

namespace {

using Json = nlohmann::ordered_json;

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

Json kinds_json(runtime::Role role) {
  Json out = Json::array();
  for (const runtime::ProcessorKind* kind : runtime::list_processors(role)) {
    out.push_back({{"kind", kind->kind}, {"doc", kind->doc}, {"origin", kind->origin}});
  }
  return out;
}

}  // namespace

mambasdk_string runtime_describe() {
  try {
    Json engines = Json::array();
    for (const runtime::Engine* engine : runtime::list_engines()) {
      engines.push_back({{"name", engine->name}, {"doc", engine->doc}, {"origin", engine->origin}});
    }
    Json j = {{"plugins", Json::array()},
              {"engines", std::move(engines)},
              {"processors", kinds_json(runtime::Role::processor)},
              {"heads", kinds_json(runtime::Role::head)},
              {"components", Json::array()}};
    Catalogue& c = catalogue();
    const std::lock_guard lock(c.mutex);
    for (const std::string& plugin : c.plugins) j["plugins"].push_back(Json::parse(plugin, nullptr, false));
    for (const auto& [name, version] : c.components) {
      j["components"].push_back({{"name", name}, {"version", version}, {"origin", "host"}});
    }
    const auto text = c.described.insert(j.dump(-1, ' ', false, Json::error_handler_t::replace)).first;
    return view(std::string_view(*text));
  } catch (...) {
    return {"{}", 2};  // out of memory
  }
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
