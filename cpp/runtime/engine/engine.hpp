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

// What a session's state was; made and taken back by the same session.
class Snapshot {
 public:
  virtual ~Snapshot() = default;
};

// Bytes; weights are the model's, which its sessions share.
struct SessionMemory {
  std::uint64_t mapped_weights = 0;    // read where they lie in the package's files
  std::uint64_t prepared_weights = 0;  // made at load
  std::uint64_t states = 0;
  std::uint64_t arena = 0;  // of the plans that are kept
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
  // Errors: corrupt, invalid_argument (a state of another model); then the state is unchanged.
  virtual void restore(std::span<const std::byte> image) = 0;
  // For an undertaking of several steps that may fail after a run (Rollback). Null: there is no state to go back to.
  [[nodiscard]] virtual std::unique_ptr<Snapshot> snapshot() const = 0;
  virtual void roll_back(std::unique_ptr<Snapshot> snapshot) noexcept = 0;
  // Error(unsupported) of an engine that does not count it.
  [[nodiscard]] virtual SessionMemory memory() const {
    fail(ErrorCode::unsupported, "the session's engine does not count its memory");
  }
};

// Takes a session back to where it was when this was made, unless keep() is called.
class Rollback {
 public:
  explicit Rollback(Session& session) : session_(&session), snapshot_(session.snapshot()) {}
  ~Rollback() {
    if (snapshot_ != nullptr) session_->roll_back(std::move(snapshot_));
  }
  Rollback(const Rollback&) = delete;
  Rollback& operator=(const Rollback&) = delete;
  void keep() noexcept { snapshot_.reset(); }

 private:
  Session* session_;
  std::unique_ptr<Snapshot> snapshot_;
};

// Immutable; shared by threads. Always owned by a std::shared_ptr: sessions keep their model alive.
class Model : public std::enable_shared_from_this<Model> {
 public:
  explicit Model(Package package) : package_(std::move(package)) {}
  virtual ~Model() = default;
  [[nodiscard]] const Package& package() const noexcept { return package_; }
  [[nodiscard]] virtual std::vector<TensorSpec> inputs() const { return package_.manifest().inputs; }
  [[nodiscard]] virtual std::vector<TensorSpec> outputs() const { return package_.manifest().outputs; }
  [[nodiscard]] virtual std::vector<StateSpec> states() const = 0;
  [[nodiscard]] virtual std::unique_ptr<Session> new_session(std::unique_ptr<Context> context) const = 0;

 protected:
  [[nodiscard]] Package& own_package() noexcept { return package_; }

 private:
  Package package_;
};

struct Engine;

enum class Verify {
  automatic,  // files that were not compared with the manifest since they last changed
  off,        // names and sizes only
  all,        // SHA-256 of every file
};

struct LoadOptions {
  Verify verify = Verify::automatic;
  bool allow_code = false;       // an engine may execute machine code that comes with the package
  std::uint64_t max_memory = 0;  // bytes of prepared weights, and of each session; 0: default_memory_limit()
  std::uint64_t max_work = 0;    // steps of one run, as operation_work() counts them; 0: no limit
  // Asked once for an engine that is not here; may add it.
  std::function<void(std::string_view name)> missing_engine{};
  const Engine* engine = nullptr;  // in place of the one that the manifest names, whose code then is not executed
};

}  // namespace mambasdk::runtime
