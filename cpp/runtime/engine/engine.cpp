#include "runtime/engine/engine.hpp"

#include <cstdlib>
#include <new>

#include "mambasdk/mambasdk.h"
#include "runtime/engine/native.hpp"

namespace mambasdk::runtime {

OwnedTensor OwnedTensor::allocate(DType dtype, const std::int64_t* shape, int ndim) {
  OwnedTensor out;
  out.view = Tensor::contiguous(nullptr, dtype, shape, ndim);
  const auto bytes = static_cast<std::size_t>(out.view.nbytes());
  constexpr std::size_t alignment = 64;
  const std::size_t rounded = (bytes + alignment) / alignment * alignment;  // at least one line, so never null
  auto* data = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (data == nullptr) fail(ErrorCode::out_of_memory, "cannot allocate ", bytes, " bytes");
  out.memory = std::shared_ptr<std::byte[]>(data, [](std::byte* p) { std::free(p); });
  out.view.data = data;
  return out;
}

std::shared_ptr<const Model> load_model(const std::filesystem::path& directory, const LoadOptions& options) {
  Package package = Package::open(directory);
  const Manifest& manifest = package.manifest();
  if (const auto abi = manifest.requires_abi) {
    if (abi->major != MAMBASDK_ABI_MAJOR || abi->minor > MAMBASDK_ABI_MINOR) {
      fail(ErrorCode::version, directory.string(), " needs mambasdk ABI ", abi->major, ".", abi->minor, "; this is ",
           MAMBASDK_ABI_MAJOR, ".", MAMBASDK_ABI_MINOR, "; upgrade mambasdk");
    }
  }
  if (options.verify_files) package.verify_files();
  if (manifest.engine == "native") return std::make_shared<NativeModel>(std::move(package));
  fail(ErrorCode::unsupported, directory.string(), " was exported for the engine \"", manifest.engine,
       "\", which this library does not have; export it again with --engine native");
}

std::unique_ptr<Session> make_session(std::shared_ptr<const Model> model, std::unique_ptr<Context> context) {
  if (auto native = std::dynamic_pointer_cast<const NativeModel>(model)) {
    return std::make_unique<NativeSession>(std::move(native), std::move(context));
  }
  fail(ErrorCode::internal, "a model without an engine");
}

}  // namespace mambasdk::runtime
