#include "ops/builtin.hpp"

#include "core/registry.hpp"
#include "ops/causal_conv1d/causal_conv1d.hpp"
#include "ops/diagonal_scan/diagonal_scan.hpp"
#include "ops/elementwise/elementwise.hpp"
#include "ops/linear/linear.hpp"
#include "ops/norm/norm.hpp"
#include "ops/selective_scan/selective_scan.hpp"
#include "ops/selective_state_update/selective_state_update.hpp"
#include "ops/ssd/ssd.hpp"
#include "ops/tokens/tokens.hpp"

namespace mambasdk {

Registry& registry() {
  static Registry* table = [] {
    auto* made = new Registry;  // lives as long as the process: kernels may run during exit
    register_causal_conv1d(*made);
    register_diagonal_scan(*made);
    register_elementwise(*made);
    register_linear(*made);
    register_norm(*made);
    register_selective_scan(*made);
    register_selective_state_update(*made);
    register_ssd(*made);
    register_tokens(*made);
    return made;
  }();
  return *table;
}

}  // namespace mambasdk
