// max_pool, average_pool and their adaptive forms.
#pragma once

namespace mambasdk {

class Registry;
void register_pooling(Registry& registry);

}  // namespace mambasdk
