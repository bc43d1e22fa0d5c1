#include "dtypes.hpp"

#include <stdexcept>
#include <string_view>

#include "shim.hpp"

namespace mambasdk::torch_adapter {

namespace {

struct Pair {
  std::int32_t torch;
  mambasdk_dtype dtype;
  const char* name;
  std::string_view use;
};

const auto& pairs() {
  static const Pair all[] = {
#define MAMBASDK_TORCH_PAIR(id, name, code, bits, block, bytes, stored, array, use, T) \
  {shim().aoti_torch_dtype_##array(), {code, bits, 1}, #array, #use},
      MAMBASDK_ARRAY_DTYPES(MAMBASDK_TORCH_PAIR)
#undef MAMBASDK_TORCH_PAIR
  };
  return all;
}

}  // namespace

std::int32_t torch_dtype(mambasdk_dtype wanted) {
  for (const Pair& pair : pairs()) {
    if (pair.dtype.code == wanted.code && pair.dtype.bits == wanted.bits) return pair.torch;
  }
  throw std::runtime_error("libmambasdk_torch: torch has no dtype for DLPack code " + std::to_string(wanted.code) +
                           " with " + std::to_string(wanted.bits) + " bits, which an output has");
}

bool dtype_of_torch(std::int32_t dtype, mambasdk_dtype& out) {
  for (const Pair& pair : pairs()) {
    if (pair.torch != dtype) continue;
    out = pair.dtype;
    return true;
  }
  return false;
}

std::string computed_dtypes() {
  std::string names;
  for (const Pair& pair : pairs()) {
    if (pair.use == "computed") names += (names.empty() ? "" : ", ") + std::string(pair.name);
  }
  return names;
}

}  // namespace mambasdk::torch_adapter
