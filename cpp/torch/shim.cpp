// Finds the shim's functions in the libtorch of this process.
#include "shim.hpp"

#include <dlfcn.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace mambasdk::torch_adapter {

namespace {

// Python loads libtorch with local visibility, so the global scope alone does not show it.
class Libraries {
 public:
  Libraries() {
    static constexpr const char* names[] = {"libtorch_cpu.so", "libtorch_cuda.so",   "libtorch_xpu.so",
                                            "libtorch.so",     "libtorch_cpu.dylib", "libtorch.dylib"};
    for (const char* name : names) {
      if (void* handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD)) handles_.push_back(handle);
    }
  }
  [[nodiscard]] void* find(const char* symbol) const {
    if (void* found = dlsym(RTLD_DEFAULT, symbol)) return found;
    for (void* handle : handles_) {
      if (void* found = dlsym(handle, symbol)) return found;
    }
    return nullptr;
  }

 private:
  std::vector<void*> handles_;  // never closed: libtorch stays for the life of the process
};

template <class Function>
bool resolve(const Libraries& libraries, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(libraries.find(name));
  return function != nullptr;
}

const Libraries& libraries_of_torch() {
  static const Libraries found;
  return found;
}

Shim load() {
  const Libraries& libraries = libraries_of_torch();
  Shim s;
  if (!resolve(libraries, "aoti_torch_abi_version", s.aoti_torch_abi_version)) {
    throw std::runtime_error("libmambasdk_torch: no libtorch is loaded in this process; import torch first");
  }
  const std::uint64_t version = s.aoti_torch_abi_version();
  if (version < TORCH_VERSION_2_10_0) {
    throw std::runtime_error("libmambasdk_torch: torch " + std::to_string(version >> 56) + "." +
                             std::to_string((version >> 48) & 0xff) +
                             " is loaded, expected 2.10 or newer; pip install 'torch>=2.10'");
  }
#define MAMBASDK_TORCH_RESOLVE(name)                                                                          \
  if (!resolve(libraries, #name, s.name)) {                                                                   \
    throw std::runtime_error("libmambasdk_torch: this libtorch has no " #name "; pip install 'torch>=2.10'"); \
  }
  MAMBASDK_TORCH_SHIM(MAMBASDK_TORCH_RESOLVE)
#define MAMBASDK_TORCH_RESOLVE_DTYPE(id, name, code, bits, block, bytes, stored, array, ...) \
  MAMBASDK_TORCH_RESOLVE(aoti_torch_dtype_##array)
  MAMBASDK_ARRAY_DTYPES(MAMBASDK_TORCH_RESOLVE_DTYPE)
#undef MAMBASDK_TORCH_RESOLVE_DTYPE
#undef MAMBASDK_TORCH_RESOLVE
  resolve(libraries, "torch_delete_stable_ivalue", s.torch_delete_stable_ivalue);
  return s;
}

}  // namespace

void* find_symbol(const char* name) {
  return libraries_of_torch().find(name);
}

const Shim& shim() {
  static const Shim loaded = load();
  return loaded;
}

}  // namespace mambasdk::torch_adapter
