// The scalar kernel of gru: double accumulation, every dtype.
#pragma once

#include "ops/gru/gru_args.hpp"

namespace mambasdk::gru {

void reference_gru(const Args& a);

}  // namespace mambasdk::gru
