// Which model a saved state belongs to.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "runtime/package/package.hpp"

namespace mambasdk::runtime {

struct StateIdentity {
  std::string family;
  std::string variant;
  std::string program;  // SHA-256 over what computes: the engine, its program, the weights' names, shapes and hashes

  // As it stands beside a saved state.
  [[nodiscard]] std::map<std::string, std::string> metadata() const;
  // Error(invalid_argument) where a state was saved by another model. What was saved before states carried `program`
  // is known by family and variant alone.
  void check(const std::map<std::string, std::string>& saved) const;
};

// `program`: the text of the native program; empty for other engines.
[[nodiscard]] StateIdentity state_identity(const Package& package, std::string_view program);

}  // namespace mambasdk::runtime
