// What every engine offers: a model loaded from a package, and sessions that run it and carry its state.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/op.hpp"
#include "runtime/engine/states.hpp"
#include "runtime/package/package.hpp"

namespace mambasdk::runtime {

struct NamedTensor {
  std::string_view name;
  Tensor tensor;
};

// One sequence (or batch of sequences) in progress. One thread at a time.
class Session {
 public:
  virtual ~Session() = default;
  // Runs the inputs and returns the outputs in the order asked for. State carries over; it is unchanged if this throws.
  [[nodiscard]] virtual std::vector<OwnedTensor> run(std::span<const NamedTensor> inputs,
                                                     std::span<const std::string_view> outputs) = 0;
  virtual void reset() = 0;
  [[nodiscard]] virtual std::unique_ptr<Session> clone() const = 0;
  [[nodiscard]] virtual std::vector<std::byte> save() const = 0;  // a safetensors image
  virtual void restore(std::span<const std::byte> image) = 0;
};

// Immutable; shared by threads. Always owned by a std::shared_ptr: sessions keep their model alive.
class Model : public std::enable_shared_from_this<Model> {
 public:
  explicit Model(Package package) : package_(std::move(package)) {}
  virtual ~Model() = default;
  [[nodiscard]] const Package& package() const noexcept { return package_; }
  [[nodiscard]] virtual std::vector<TensorSpec> outputs() const { return package_.manifest().outputs; }
  [[nodiscard]] virtual std::vector<StateSpec> states() const = 0;
  [[nodiscard]] virtual std::unique_ptr<Session> new_session(std::unique_ptr<Context> context) const = 0;

 private:
  Package package_;
};

struct LoadOptions {
  bool verify_files = false;  // SHA-256 of every file
  // Asked once for an engine that is not here; may add it.
  std::function<void(std::string_view name)> missing_engine{};
};

// What loads the packages whose manifest names it.
struct Engine {
  std::string name;
  std::string doc;
  std::string origin;  // "mambasdk" or the plugin's name
  std::function<std::shared_ptr<const Model>(Package)> load;
};

// The engines of the process: `native`, and those that plugins bring. Entries live as long as the process.
[[nodiscard]] const Engine* find_engine(std::string_view name);
[[nodiscard]] std::vector<const Engine*> list_engines();  // by name
void add_engine(Engine engine);                           // Error(invalid_argument) when the name is taken

// Opens the package and picks the engine that its manifest names. Errors: those of Package::open, and unsupported for
// an engine or plugin that is not here.
[[nodiscard]] std::shared_ptr<const Model> load_model(const std::filesystem::path& directory,
                                                      const LoadOptions& options = {});

}  // namespace mambasdk::runtime
