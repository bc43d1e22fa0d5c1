// Finding libtorch and registering the SDK's operations with it.
#include "aoti/libtorch.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string_view>

#include "core/error.hpp"

namespace mambasdk::aoti {

namespace {

#if defined(__APPLE__)
constexpr const char* torch_library = "libtorch_cpu.dylib";
constexpr const char* adapter_library = "libmambasdk_torch.dylib";
#else
constexpr const char* torch_library = "libtorch_cpu.so";
constexpr const char* adapter_library = "libmambasdk_torch.so";
#endif
constexpr const char* override_variable = "MAMBASDK_LIBTORCH";
constexpr const char* way_out =
    "; set MAMBASDK_LIBTORCH to the folder of libtorch_cpu.so (in Python's torch: the folder lib of the package), or "
    "link the program to libtorch";

// The file that this function is in.
std::filesystem::path own_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) {
    fail(ErrorCode::internal, "the engine aoti cannot find its own library");
  }
  return std::filesystem::canonical(info.dli_fname).parent_path();
}

// torch in the Python environment that this library is installed in: site-packages/mambasdk/lib beside
// site-packages/torch/lib. Empty where there is none.
std::filesystem::path neighbour() {
  std::error_code error;
  const std::filesystem::path own = own_folder();
  for (std::filesystem::path above = own; above.has_relative_path(); above = above.parent_path()) {
    if (above.filename() != "site-packages" && above.filename() != "dist-packages") continue;
    std::filesystem::path library = above / "torch" / "lib" / torch_library;
    if (std::filesystem::is_regular_file(library, error)) return library;
  }
  return {};
}

class Library {
 public:
  Library() {
    if (dlsym(RTLD_DEFAULT, "aoti_torch_abi_version") != nullptr) return;
    // Python loads libtorch with local visibility, so the global scope alone does not show it.
    handle_ = dlopen(torch_library, RTLD_LAZY | RTLD_NOLOAD);
    if (handle_ != nullptr) return;
    std::filesystem::path path = torch_library;
    if (const char* named = std::getenv(override_variable); named != nullptr && *named != '\0') {
      path = named;
      std::error_code error;
      if (std::filesystem::is_directory(path, error)) path /= torch_library;
    } else if (const std::filesystem::path beside = neighbour(); !beside.empty()) {
      path = beside;
    }
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: models stay linked to it
    if (handle_ == nullptr) {
      const char* reason = dlerror();
      fail(ErrorCode::unsupported, "the engine aoti needs libtorch: ", reason == nullptr ? "not found" : reason,
           way_out);
    }
  }
  [[nodiscard]] void* find(const char* symbol) const {
    if (void* found = dlsym(RTLD_DEFAULT, symbol)) return found;
    return handle_ == nullptr ? nullptr : dlsym(handle_, symbol);
  }

 private:
  void* handle_ = nullptr;
};

LibTorch bind() {
  const Library library;
  LibTorch t;
#define MAMBASDK_AOTI_RESOLVE(name)                                                                              \
  t.name = reinterpret_cast<decltype(t.name)>(library.find(#name));                                              \
  if (t.name == nullptr) {                                                                                       \
    fail(ErrorCode::unsupported, "the libtorch of this process has no " #name "; expected torch 2.10 or newer"); \
  }
  MAMBASDK_AOTI_SHIM(MAMBASDK_AOTI_RESOLVE)
#define MAMBASDK_AOTI_RESOLVE_DTYPE(id, name, code, bits, block, bytes, stored, array, ...) \
  MAMBASDK_AOTI_RESOLVE(aoti_torch_dtype_##array)
  MAMBASDK_ARRAY_DTYPES(MAMBASDK_AOTI_RESOLVE_DTYPE)
#undef MAMBASDK_AOTI_RESOLVE_DTYPE
#undef MAMBASDK_AOTI_RESOLVE
  const std::uint64_t version = t.aoti_torch_abi_version();
  t.version = concat(version >> 56, ".", (version >> 48) & 0xff, ".", (version >> 40) & 0xff);
  return t;
}

// libmambasdk_torch lies beside this library.
void register_operations() {
  using Register = std::int64_t (*)(const char** message);
  static const Register register_new = [] {
    const std::filesystem::path path = own_folder() / adapter_library;
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* symbol = library == nullptr ? nullptr : dlsym(library, "mambasdk_torch_register");
    if (symbol == nullptr) {
      const char* reason = dlerror();
      fail(ErrorCode::unsupported, "the engine aoti needs ", path.string(), ": ",
           reason == nullptr ? "not found" : reason, "; copy it with the engine");
    }
    return reinterpret_cast<Register>(symbol);
  }();
  const char* message = "";
  if (register_new(&message) < 0) fail(ErrorCode::unsupported, message);
}

struct Pair {
  std::int32_t torch;
  DType type;
};

const auto& dtypes() {
  static const Pair pairs[] = {
#define MAMBASDK_AOTI_PAIR(id, name, code, bits, block, bytes, stored, array, ...) \
  {libtorch().aoti_torch_dtype_##array(), dtype::id},
      MAMBASDK_ARRAY_DTYPES(MAMBASDK_AOTI_PAIR)
#undef MAMBASDK_AOTI_PAIR
  };
  return pairs;
}

void check(AOTITorchError error, const char* what) {
  if (error != AOTI_TORCH_SUCCESS) fail(ErrorCode::internal, "torch failed to ", what);
}

}  // namespace

const LibTorch& libtorch() {
  static const LibTorch bound = bind();
  return bound;
}

void register_operations_with_torch() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  (void)libtorch();
  register_operations();
}

void DeleteTensor::operator()(AtenTensorOpaque* handle) const noexcept {
  libtorch().aoti_torch_delete_tensor_object(handle);
}

DType dtype_from_torch(std::int32_t dtype) {
  const auto& pairs = dtypes();
  const auto found = std::find_if(std::begin(pairs), std::end(pairs), [&](const Pair& p) { return p.torch == dtype; });
  if (found == std::end(pairs)) fail(ErrorCode::unsupported, "torch's dtype ", dtype, " is none that a package has");
  return found->type;
}

TensorHandle borrow(const Tensor& t) {
  const auto& pairs = dtypes();
  const auto found = std::find_if(std::begin(pairs), std::end(pairs), [&](const Pair& p) { return p.type == t.dtype; });
  if (found == std::end(pairs)) fail(ErrorCode::unsupported, "torch has no dtype for ", dtype_name(t.dtype));
  AtenTensorHandle handle = nullptr;
  check(libtorch().aoti_torch_create_tensor_from_blob(t.data, t.ndim, t.shape.data(), t.strides.data(), 0, found->torch,
                                                      libtorch().aoti_torch_device_type_cpu(), 0, &handle),
        "make a tensor");
  return TensorHandle(handle);
}

Tensor view(AtenTensorHandle handle) {
  const LibTorch& torch = libtorch();
  std::int64_t ndim = 0;
  std::int64_t* sizes = nullptr;
  std::int64_t* strides = nullptr;
  std::int32_t type = 0;
  void* data = nullptr;
  check(torch.aoti_torch_get_dim(handle, &ndim), "read a tensor's rank");
  check(torch.aoti_torch_get_sizes(handle, &sizes), "read a tensor's sizes");
  check(torch.aoti_torch_get_strides(handle, &strides), "read a tensor's strides");
  check(torch.aoti_torch_get_dtype(handle, &type), "read a tensor's dtype");
  check(torch.aoti_torch_get_data_ptr(handle, &data), "read a tensor's memory");
  if (ndim > kMaxDims) fail(ErrorCode::unsupported, "a tensor with ", ndim, " dims, at most ", kMaxDims);
  Tensor t = Tensor::contiguous(data, dtype_from_torch(type), sizes, static_cast<int>(ndim));
  std::copy_n(strides, ndim, t.strides.begin());
  return t;
}

}  // namespace mambasdk::aoti
