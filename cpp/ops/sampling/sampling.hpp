// grid_sample and deformable_sample: a map at positions that are computed.
#pragma once

namespace mambasdk {

class Registry;
void register_sampling(Registry& registry);

}  // namespace mambasdk
