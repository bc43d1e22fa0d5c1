// Loading a compiled model's library, and the calls into it.
#include "aoti/compiled_model.hpp"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "aoti/archive.hpp"
#include "core/error.hpp"
#include "runtime/package/mapped_file.hpp"
#include "runtime/package/sha256.hpp"

namespace mambasdk::aoti {

// The functions of torch/csrc/inductor/aoti_runtime/interface.h that are used, whose handles are plain pointers.
struct ConstantEntry {
  const char* name;
  AtenTensorHandle handle;
};
struct CompiledModel::Functions {
  std::int32_t (*AOTInductorModelContainerCreateWithDevice)(void** container, std::size_t models, const char* device,
                                                            const char* cubin_dir);
  std::int32_t (*AOTInductorModelContainerDelete)(void* container);
  std::int32_t (*AOTInductorModelContainerGetNumInputs)(void* container, std::size_t* count);
  std::int32_t (*AOTInductorModelContainerGetNumOutputs)(void* container, std::size_t* count);
  std::int32_t (*AOTInductorModelContainerGetNumConstants)(void* container, std::size_t* count);
  std::int32_t (*AOTInductorModelContainerGetConstantName)(void* container, std::size_t index, const char** name);
  std::int32_t (*AOTInductorModelContainerGetConstantOriginalFQN)(void* container, std::size_t index,
                                                                  const char** name);
  std::int32_t (*AOTInductorModelContainerGetConstantDtype)(void* container, std::size_t index, std::int32_t* dtype);
  std::int32_t (*AOTInductorModelContainerGetConstantDataSize)(void* container, std::size_t index, std::size_t* bytes);
  std::int32_t (*AOTInductorModelContainerGetConstantFromFolded)(void* container, std::size_t index, bool* folded);
  std::int32_t (*AOTInductorModelContainerUpdateUserManagedConstantBufferPairs)(void* container,
                                                                                const ConstantEntry* entries,
                                                                                std::size_t count, bool inactive,
                                                                                bool complete);
  std::int32_t (*AOTInductorModelContainerRun)(void* container, AtenTensorHandle* inputs, std::size_t input_count,
                                               AtenTensorHandle* outputs, std::size_t output_count, void* stream,
                                               void* proxy_executor);
  std::int32_t (*AOTInductorGetLastError)(const char** message);
};

namespace {

using Functions = CompiledModel::Functions;

constexpr std::size_t padding = 64;  // inductor counts a weight's bytes up to the next multiple

void check(const Functions& f, std::int32_t error, std::string_view what) {
  if (error == 0) return;
  const char* message = nullptr;
  (void)f.AOTInductorGetLastError(&message);
  fail(ErrorCode::internal, "the compiled model failed to ", what, ": ",
       message == nullptr || *message == '\0' ? "it gives no reason" : message);
}

template <class Function>
void resolve(void* library, const char* name, Function*& function, std::string_view source) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (function == nullptr) {
    fail(ErrorCode::unsupported, source, ": the compiled model has no ", name,
         "; export it again with torch 2.13 or newer");
  }
}

Functions resolve_all(void* library, std::string_view source) {
  Functions f{};
#define MAMBASDK_AOTI_RESOLVE(name) resolve(library, #name, f.name, source)
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerCreateWithDevice);
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerDelete);
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerGetNumInputs);
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerGetNumOutputs);
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerGetNumConstants);
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerGetConstantName);
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerGetConstantOriginalFQN);
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerGetConstantDtype);
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerGetConstantDataSize);
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerGetConstantFromFolded);
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerUpdateUserManagedConstantBufferPairs);
  MAMBASDK_AOTI_RESOLVE(AOTInductorModelContainerRun);
  MAMBASDK_AOTI_RESOLVE(AOTInductorGetLastError);
#undef MAMBASDK_AOTI_RESOLVE
  return f;
}

// A file to load the library from: in memory where the system has that, as folders for temporary files may forbid
// execution. It stays open: the loader knows libraries by path, and this path is the descriptor's number.
class LibraryFile {
 public:
  explicit LibraryFile(std::span<const std::byte> bytes) {
#if defined(__linux__)
    descriptor_ = memfd_create("mambasdk-model", MFD_CLOEXEC);
    path_ = "/proc/self/fd/" + std::to_string(descriptor_);
#else
    path_ = (std::filesystem::temp_directory_path() / "mambasdk-model-XXXXXX").string();
    descriptor_ = mkstemp(path_.data());
#endif
    if (descriptor_ < 0) fail(ErrorCode::io, "cannot make a file for the compiled model");
    while (!bytes.empty()) {
      const ::ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written <= 0) fail(ErrorCode::io, "cannot write the compiled model's library");
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  int descriptor_ = -1;
  std::string path_;
};

const Functions& load_library(std::span<const std::byte> bytes, std::string_view source) {
  static std::mutex mutex;
  static auto* loaded = new std::map<std::string, Functions>;  // by content; a library is never unloaded
  const std::lock_guard lock(mutex);
  const std::string digest = runtime::sha256_hex(bytes);
  if (const auto found = loaded->find(digest); found != loaded->end()) return found->second;
  const LibraryFile file(bytes);
  void* library = dlopen(file.path().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    fail(ErrorCode::unsupported, source, ": the compiled model does not load: ", reason == nullptr ? "?" : reason);
  }
  return loaded->emplace(digest, resolve_all(library, source)).first->second;
}

// torch names the archive's top folder after the file, so only the end of the path is known.
std::span<const std::byte> find_library(const std::vector<ArchiveMember>& members, std::string_view source) {
  const ArchiveMember* found = nullptr;
  for (const ArchiveMember& member : members) {
    if (!member.name.ends_with(".so") || member.name.find("/data/aotinductor/model/") == std::string::npos) continue;
    if (found != nullptr) fail(ErrorCode::corrupt, source, ": there is more than one compiled model");
    found = &member;
  }
  if (found == nullptr) fail(ErrorCode::corrupt, source, ": there is no compiled model in it; export it again");
  return found->bytes;
}

}  // namespace

CompiledModel::CompiledModel(const std::filesystem::path& archive, const FindWeight& find_weight) {
  const std::string source = archive.string();
  const runtime::MappedFile file = runtime::MappedFile::read(archive);
  functions_ = &load_library(find_library(read_archive(file.bytes(), source), source), source);
  const Functions& f = *functions_;
  // So many threads may run at once; instances share the weights.
  const std::size_t instances = std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, 8);
  check(f, f.AOTInductorModelContainerCreateWithDevice(&container_, instances, "cpu", nullptr), "start");
  try {
    check(f, f.AOTInductorModelContainerGetNumInputs(container_, &input_count_), "count its inputs");
    check(f, f.AOTInductorModelContainerGetNumOutputs(container_, &output_count_), "count its outputs");
    load_weights(find_weight);
  } catch (...) {
    (void)f.AOTInductorModelContainerDelete(container_);
    throw;
  }
}

CompiledModel::~CompiledModel() {
  (void)functions_->AOTInductorModelContainerDelete(container_);
}

void CompiledModel::load_weights(const FindWeight& find_weight) {
  const Functions& f = *functions_;
  std::size_t count = 0;
  check(f, f.AOTInductorModelContainerGetNumConstants(container_, &count), "count its weights");
  std::vector<ConstantEntry> entries;
  for (std::size_t i = 0; i < count; ++i) {
    const char* name = nullptr;
    const char* full_name = nullptr;
    std::int32_t type = 0;
    std::size_t bytes = 0;
    bool folded = false;
    check(f, f.AOTInductorModelContainerGetConstantFromFolded(container_, i, &folded), "describe a weight");
    if (folded) continue;  // the model makes it
    check(f, f.AOTInductorModelContainerGetConstantName(container_, i, &name), "describe a weight");
    check(f, f.AOTInductorModelContainerGetConstantOriginalFQN(container_, i, &full_name), "describe a weight");
    check(f, f.AOTInductorModelContainerGetConstantDtype(container_, i, &type), "describe a weight");
    check(f, f.AOTInductorModelContainerGetConstantDataSize(container_, i, &bytes), "describe a weight");
    std::string_view own_name = full_name;
    if (own_name.starts_with("model.")) own_name.remove_prefix(6);  // what the exporter calls the module
    const Tensor weight = find_weight(own_name, dtype_from_torch(type));
    const auto size = static_cast<std::size_t>(weight.nbytes());
    if (bytes < size || bytes >= size + padding) {
      fail(ErrorCode::corrupt, "weight ", own_name, " has ", size, " bytes, the compiled model expects ", bytes,
           "; export the package again");
    }
    weights_.push_back(borrow(weight));
    entries.push_back({name, weights_.back().get()});
  }
  check(f,
        f.AOTInductorModelContainerUpdateUserManagedConstantBufferPairs(container_, entries.data(), entries.size(),
                                                                        false, true),
        "take its weights");
}

std::vector<TensorHandle> CompiledModel::run(std::span<const Tensor> inputs) const {
  if (inputs.size() != input_count_) {
    fail(ErrorCode::internal, "the compiled model takes ", input_count_, " tensors, got ", inputs.size());
  }
  std::vector<TensorHandle> borrowed;
  for (const Tensor& t : inputs) borrowed.push_back(borrow(t));
  std::vector<AtenTensorHandle> given;
  for (TensorHandle& handle : borrowed) given.push_back(handle.release());  // the call takes them
  std::vector<AtenTensorHandle> made(output_count_, nullptr);
  check(*functions_,
        functions_->AOTInductorModelContainerRun(container_, given.data(), given.size(), made.data(), made.size(),
                                                 nullptr, nullptr),
        "run");
  std::vector<TensorHandle> results;
  for (AtenTensorHandle handle : made) results.emplace_back(handle);
  return results;
}

}  // namespace mambasdk::aoti
