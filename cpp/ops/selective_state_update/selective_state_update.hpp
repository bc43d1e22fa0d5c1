// selective_state_update (one step of selective_scan) and its derivative: definitions for the registry.
#pragma once

namespace mambasdk {
class Registry;
void register_selective_state_update(Registry& registry);
}  // namespace mambasdk
