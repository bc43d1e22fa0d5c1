// resize: interpolation of a map at a regular grid.
#pragma once

namespace mambasdk {

class Registry;
void register_resize(Registry& registry);

}  // namespace mambasdk
