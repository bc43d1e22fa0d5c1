// Activations (activation.hpp) as types of vector functions. For *.isa.cpp only.
#pragma once

#include "ops/activation.hpp"
#include "ops/elementwise/functions_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"  // few have a slope
#define MAMBASDK_ACTIVATION_TYPE(name, expression)                       \
  struct name##_activation {                                             \
    MAMBASDK_SIMD vf value(Number x, Parameter p) { return expression; } \
  };
MAMBASDK_ACTIVATIONS(MAMBASDK_ACTIVATION_TYPE)
#undef MAMBASDK_ACTIVATION_TYPE
#pragma GCC diagnostic pop

}  // namespace mambasdk::MAMBASDK_ISA
