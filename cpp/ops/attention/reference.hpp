// The scalar kernel of attention: double accumulation, every dtype.
#pragma once

#include "ops/attention/attention_args.hpp"

namespace mambasdk::attention {

void reference_attention(const Args& a, double scale);

}  // namespace mambasdk::attention
