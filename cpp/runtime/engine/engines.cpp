#include "runtime/engine/engines.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "mambasdk/mambasdk.h"
#include "runtime/engine/memory_limit.hpp"
#include "runtime/engine/native.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

namespace {

struct Engines {
  std::mutex mutex;
  std::map<std::string, Engine, std::less<>> by_name;
};

Engines& engines() {
  static auto* table = [] {
    auto made = std::make_unique<Engines>();  // until it is whole
    made->by_name.emplace(
        "native",
        Engine{"native", "Runs program.json on the registered operations, on the CPU or on a plugin's device.",
               "mambasdk", [](Package package, const LoadOptions& options) {
                 return std::make_shared<const NativeModel>(std::move(package), options);
               }});
    return made.release();
  }();
  return *table;
}

[[noreturn]] void refuse_unknown_engine(const Package& package) {
  const Manifest& manifest = package.manifest();
  std::string known, plugins;
  for (const Engine* engine : list_engines()) known += (known.empty() ? "" : ", ") + engine->name;
  for (const PluginRequirement& plugin : manifest.requires_plugins) {
    plugins += (plugins.empty() ? "" : ", ") + plugin.name + (plugin.version.empty() ? "" : " " + plugin.version);
  }
  fail(ErrorCode::unsupported, package.directory().string(), " needs the engine \"", printable(manifest.engine),
       "\", which is not loaded here (there is: ", known, "); ",
       plugins.empty() ? std::string("load the plugin that brings it")
                       : "the package requires these plugins, load the one that brings it: " + printable(plugins),
       "; or export the model again with --engine native");
}

[[noreturn]] void refuse_code(const Package& package) {
  fail(ErrorCode::unsupported, package.directory().string(), " runs on the engine \"",
       printable(package.manifest().engine),
       "\", which executes machine code that comes with the package; where you trust its origin, allow it (allow_code "
       "in "
       "the load options, --allow-code on the command line), or use a package for the native engine");
}

}  // namespace

const Engine* find_engine(std::string_view name) {
  Engines& table = engines();
  const std::lock_guard lock(table.mutex);
  const auto found = table.by_name.find(name);
  return found == table.by_name.end() ? nullptr : &found->second;
}

std::vector<const Engine*> list_engines() {
  Engines& table = engines();
  const std::lock_guard lock(table.mutex);
  std::vector<const Engine*> out;
  for (const auto& [name, engine] : table.by_name) out.push_back(&engine);
  return out;
}

void add_engine(Engine engine) {
  Engines& table = engines();
  const std::lock_guard lock(table.mutex);
  if (const auto found = table.by_name.find(engine.name); found != table.by_name.end()) {
    fail(ErrorCode::invalid_argument, "engine ", engine.name, " is already registered by ", found->second.origin,
         "; choose another name");
  }
  std::string name = engine.name;
  table.by_name.emplace(std::move(name), std::move(engine));
}

std::shared_ptr<const Model> load_model(const std::filesystem::path& directory, const LoadOptions& options) {
  Package package = Package::open(directory);
  const Manifest& manifest = package.manifest();
  if (const auto abi = manifest.requires_abi) {
    if (abi->major != MAMBASDK_ABI_MAJOR || abi->minor > MAMBASDK_ABI_MINOR) {
      fail(ErrorCode::version, directory.string(), " needs mambasdk ABI ", abi->major, ".", abi->minor, "; this is ",
           MAMBASDK_ABI_MAJOR, ".", MAMBASDK_ABI_MINOR, "; upgrade mambasdk");
    }
  }
  if (options.verify == Verify::all) package.verify_files();
  if (options.verify == Verify::automatic) package.verify_changed_files();
  // Before anything is loaded for it, and whatever an engine of an older ABI says of itself.
  if (options.engine == nullptr && manifest.executes_code && !options.allow_code) refuse_code(package);
  const Engine* engine = options.engine != nullptr ? options.engine : find_engine(manifest.engine);
  if (engine == nullptr && options.missing_engine) {
    options.missing_engine(manifest.engine);
    engine = find_engine(manifest.engine);
  }
  if (engine == nullptr) refuse_unknown_engine(package);
  if (engine->executes_code && !options.allow_code) refuse_code(package);
  LoadOptions allowed = options;
  if (allowed.max_memory == 0) allowed.max_memory = default_memory_limit();
  return engine->load(std::move(package), allowed);
}

}  // namespace mambasdk::runtime
