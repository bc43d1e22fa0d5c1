#include "ops/builtin.hpp"

#include "core/registry.hpp"
#include "ops/families.hpp"  // the folders beside this file, listed by cmake/Library.cmake

namespace mambasdk {

#define MAMBASDK_DECLARE_FAMILY(name) void register_##name(Registry& registry);
MAMBASDK_OPERATION_FAMILIES(MAMBASDK_DECLARE_FAMILY)
#undef MAMBASDK_DECLARE_FAMILY

Registry& registry() {
  static Registry* table = [] {
    auto* made = new Registry;  // lives as long as the process: kernels may run during exit
#define MAMBASDK_REGISTER_FAMILY(name) register_##name(*made);
    MAMBASDK_OPERATION_FAMILIES(MAMBASDK_REGISTER_FAMILY)
#undef MAMBASDK_REGISTER_FAMILY
    return made;
  }();
  return *table;
}

}  // namespace mambasdk
