// The engines of the process, and loading a package with the one that its manifest names.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine/engine.hpp"

namespace mambasdk::runtime {

// What loads the packages whose manifest names it.
struct Engine {
  std::string name;
  std::string doc;
  std::string origin;                                                             // "mambasdk" or the plugin's name
  std::function<std::shared_ptr<const Model>(Package, const LoadOptions&)> load;  // max_memory is never 0
  bool executes_code = false;  // loading executes machine code of the package: only with LoadOptions::allow_code
};

// The engines of the process: `native`, and those that plugins bring. Entries live as long as the process.
[[nodiscard]] const Engine* find_engine(std::string_view name);
[[nodiscard]] std::vector<const Engine*> list_engines();  // by name
void add_engine(Engine engine);                           // Error(invalid_argument) when the name is taken

// Opens the package, compares its files with the manifest as the options say, and picks the engine that the manifest
// names. Errors: those of Package::open, and unsupported for an engine or plugin that is not here, or for code that the
// options do not allow.
[[nodiscard]] std::shared_ptr<const Model> load_model(const std::filesystem::path& directory,
                                                      const LoadOptions& options = {});

}  // namespace mambasdk::runtime
