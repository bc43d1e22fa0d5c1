#include "ops/builtin.hpp"

#include "core/registry.hpp"

namespace mambasdk {

Registry& registry() {
  static Registry* table = [] {
    auto* made = new Registry;  // lives as long as the process: kernels may run during exit
    return made;
  }();
  return *table;
}

}  // namespace mambasdk
