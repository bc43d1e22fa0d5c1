// What a kind of processor or head is.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/pipeline/head.hpp"
#include "runtime/pipeline/processor.hpp"

namespace mambasdk::runtime {

enum class Role { processor, head };
[[nodiscard]] inline std::string_view role_name(Role role) noexcept {
  return role == Role::processor ? "processor" : "head";
}

// config: a JSON object; directory: the package, or empty.
template <class T>
using Create = std::function<std::unique_ptr<T>(std::string_view config, std::string_view directory)>;

struct ProcessorKind {
  Role role;
  std::string kind;
  std::string doc;
  std::string origin;          // "mambasdk" or the plugin's name
  Create<Processor> create{};  // of a processor
  Create<Head> create_head{};  // of a head
};

}  // namespace mambasdk::runtime
