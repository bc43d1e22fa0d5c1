// Registers every operation that ships in libmambasdk.
#pragma once

namespace mambasdk {
class Registry;
void register_builtin_ops(Registry& registry);
}  // namespace mambasdk
