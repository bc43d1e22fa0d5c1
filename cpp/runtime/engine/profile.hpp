// Times of a program's nodes, where the environment asks for them: MAMBASDK_PROFILE=FILE.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/op.hpp"
#include "runtime/engine/program.hpp"

namespace mambasdk::runtime {

// Adds one line of JSON to the file when it dies: the least and the whole time of each node over all runs.
class Profile {
 public:
  // Of "prepare" or "nodes". Null where nobody asks.
  [[nodiscard]] static std::unique_ptr<Profile> wanted(std::string part);
  Profile(std::string path, std::string part) : path_(std::move(path)), part_(std::move(part)) {}
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  // A node of the program, which stands at `index` there, with its arguments and results. Returns what end() takes.
  std::size_t add(const Node& node, std::size_t index, std::span<const Value> inputs, std::span<const Tensor> outputs);
  void begin() { start_ = Clock::now(); }
  void end(std::size_t entry);

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    std::size_t node;
    std::string operation;
    std::string shapes;
    std::size_t runs = 0;
    Clock::duration least = Clock::duration::max();
    Clock::duration whole{};
  };

  [[nodiscard]] std::string line() const;

  std::string path_, part_;
  std::vector<Entry> entries_;
  Clock::time_point start_;
};

}  // namespace mambasdk::runtime
