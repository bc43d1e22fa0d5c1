#include "abi/bundled_engine.hpp"

#include <dlfcn.h>

#include <filesystem>

#include "abi/convert.hpp"
#include "mambasdk/mambasdk.h"

namespace mambasdk::abi {

void load_bundled_engine(std::string_view name) {
#if defined(__APPLE__)
  constexpr std::string_view file = "libmambasdk_aoti.dylib";
#else
  constexpr std::string_view file = "libmambasdk_aoti.so";
#endif
  Dl_info info{};
  if (name != "aoti" || dladdr(reinterpret_cast<const void*>(&load_bundled_engine), &info) == 0) return;
  std::error_code error;
  const std::filesystem::path self = std::filesystem::canonical(info.dli_fname, error);
  const std::string path = (self.parent_path() / file).string();
  if (error || !std::filesystem::exists(path, error)) return;
  // As a host would: by the library's own table.
  const mambasdk_api* api = mambasdk_get_api(MAMBASDK_ABI_MAJOR, MAMBASDK_ABI_MINOR);
  if (const mambasdk_status* status = api->plugin_load(view(std::string_view(path)), nullptr)) throw_status(status);
}

}  // namespace mambasdk::abi
