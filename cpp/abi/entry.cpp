// The one function that the library exports. This file alone is built with debug information, which installation
// strips: it holds the interface's types and no others, and abidiff compares them with the baseline (tests/abi).
#include "mambasdk/mambasdk.h"

namespace mambasdk::abi {
extern const mambasdk_api table;  // api.cpp
}

extern "C" MAMBASDK_EXPORT const mambasdk_api* mambasdk_get_api(uint32_t abi_major, uint32_t abi_minor) {
  if (abi_major != MAMBASDK_ABI_MAJOR || abi_minor > MAMBASDK_ABI_MINOR) return nullptr;
  return &mambasdk::abi::table;
}
