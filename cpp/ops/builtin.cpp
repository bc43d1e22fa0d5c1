#include "ops/builtin.hpp"

#include <memory>

#include "core/registry.hpp"
#include "ops/families.hpp"  // the folders beside this file, listed by cmake/Library.cmake

namespace mambasdk {

#define MAMBASDK_DECLARE_FAMILY(name) void register_##name(Registry& registry);
MAMBASDK_OPERATION_FAMILIES(MAMBASDK_DECLARE_FAMILY)
#undef MAMBASDK_DECLARE_FAMILY

Registry& registry() {
  static Registry* table = [] {
    auto made = std::make_unique<Registry>();
#define MAMBASDK_REGISTER_FAMILY(name) register_##name(*made);
    MAMBASDK_OPERATION_FAMILIES(MAMBASDK_REGISTER_FAMILY)
#undef MAMBASDK_REGISTER_FAMILY
    return made.release();  // lives as long as the process: kernels may run during exit
  }();
  return *table;
}

}  // namespace mambasdk
