// The process-wide table of operations, with every operation that ships in libmambasdk.
#pragma once

namespace mambasdk {
class Registry;
Registry& registry();
}  // namespace mambasdk
