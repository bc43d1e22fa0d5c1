#include "devices.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <vector>

namespace mambasdk::torch_adapter {

namespace {

// DLPack's number, torch's number, the dispatch key, and the shim's function for the raw current stream; where there is
// none, the stream's id is the handle.
struct Known {
  std::int32_t type;
  std::int32_t (*torch_type)();
  const char* key;
  const char* stream_function;
};

const std::array<Known, 5>& known_devices() {
  static const std::array<Known, 5> all{{
      {cpu_device.type, shim().aoti_torch_device_type_cpu, "CPU", nullptr},
      {2, shim().aoti_torch_device_type_cuda, "CUDA", "aoti_torch_get_current_cuda_stream"},
      {8, shim().aoti_torch_device_type_mps, "MPS", nullptr},
      {12, shim().aoti_torch_device_type_privateuse1, "PrivateUse1", nullptr},
      {14, shim().aoti_torch_device_type_xpu, "XPU", "aoti_torch_get_current_xpu_stream"},
  }};
  return all;
}

const Known* find(std::int32_t type) {
  const auto& all = known_devices();
  const auto found = std::find_if(all.begin(), all.end(), [type](const Known& k) { return k.type == type; });
  return found == all.end() ? nullptr : &*found;
}

const Known& at(std::int32_t type) {
  const Known* known = find(type);
  if (known == nullptr) {
    throw std::runtime_error("libmambasdk_torch: torch has no device for DLPack's type " + std::to_string(type));
  }
  return *known;
}

// The functions of the shim that only calls on devices need: not every libtorch has them.
template <class Function>
Function* needed(const char* name) {
  auto* function = reinterpret_cast<Function*>(find_symbol(name));
  if (function == nullptr) {
    throw std::runtime_error(std::string("libmambasdk_torch: this libtorch has no ") + name +
                             ", which a call on a device needs; upgrade torch");
  }
  return function;
}

struct GuardFunctions {
  decltype(&aoti_torch_create_device_guard) create;
  decltype(&aoti_torch_delete_device_guard) remove;
};

const GuardFunctions& guard_functions() {
  static const GuardFunctions functions{
      needed<decltype(aoti_torch_create_device_guard)>("aoti_torch_create_device_guard"),
      needed<decltype(aoti_torch_delete_device_guard)>("aoti_torch_delete_device_guard")};
  return functions;
}

void* current_stream(const Known& known, std::int32_t index) {
  if (known.stream_function != nullptr) {
    void* raw = nullptr;
    check(needed<AOTITorchError(std::int32_t, void**)>(known.stream_function)(index, &raw), "give the current stream");
    return raw;
  }
  static const auto get = needed<decltype(aoti_torch_get_current_stream)>("aoti_torch_get_current_stream");
  static const auto id_of = needed<decltype(aoti_torch_stream_id)>("aoti_torch_stream_id");
  static const auto remove = needed<decltype(aoti_torch_delete_stream)>("aoti_torch_delete_stream");
  StreamHandle stream = nullptr;
  check(get(index, &stream), "give the current stream");
  std::int64_t id = 0;
  const AOTITorchError error = id_of(stream, &id);
  remove(stream);
  check(error, "name the current stream");
  return reinterpret_cast<void*>(id);
}

// ---- the functions of a context ----

struct Range {
  mambasdk_range_fn fn;
  void* arg;
};

void parallel_for(void* /*user*/, std::int64_t n, std::int64_t grain, mambasdk_range_fn fn, void* arg) {
  Range range{fn, arg};
  const auto run = [](std::int64_t begin, std::int64_t end, void* context) {
    const Range& r = *static_cast<const Range*>(context);
    r.fn(r.arg, begin, end);
  };
  if (n <= 0) return;
  if (shim().torch_parallel_for(0, n, grain < 1 ? 1 : grain, run, &range) != AOTI_TORCH_SUCCESS) fn(arg, 0, n);
}

void* allocate_on_host(void* /*user*/, std::uint64_t bytes, std::uint64_t alignment) {
  const std::uint64_t rounded = (bytes + alignment - 1) / alignment * alignment;
  if (rounded < bytes) return nullptr;
  return std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
}

void release_on_host(void* /*user*/, void* data, std::uint64_t /*bytes*/) {
  std::free(data);
}

}  // namespace

void check(AOTITorchError error, const char* what) {
  if (error != AOTI_TORCH_SUCCESS) throw std::runtime_error(std::string("libmambasdk_torch: torch failed to ") + what);
}

const char* dispatch_key(std::int32_t type) {
  const Known* known = find(type);
  return known == nullptr ? nullptr : known->key;
}

std::optional<mambasdk_device> device_of(std::int32_t torch_type, std::int32_t torch_index) {
  for (const Known& known : known_devices()) {
    if (known.torch_type() != torch_type) continue;
    // torch may leave the index open where there is one device.
    return mambasdk_device{known.type, torch_index < 0 || known.type == cpu_device.type ? 0 : torch_index};
  }
  return std::nullopt;
}

std::int32_t torch_type(std::int32_t type) {
  return at(type).torch_type();
}

// Scratch of one call: tensors of torch's allocator, which orders memory by stream as the library does.
struct DeviceContext::Scratch {
  mambasdk_device device;
  std::int32_t torch_device;
  std::mutex mutex;  // kernels may allocate from any thread
  std::vector<std::pair<void*, TensorHandle>> held;

  static void* allocate(void* user, std::uint64_t bytes, std::uint64_t alignment) {
    try {
      auto& self = *static_cast<Scratch*>(user);
      if (bytes + alignment < bytes || bytes + alignment > INT64_MAX) return nullptr;
      // torch's allocators align to more than the 64 bytes that kernels ask for; where one does not, there is room.
      const auto size = static_cast<std::int64_t>(bytes + alignment);
      const std::int64_t stride = 1;
      AtenTensorHandle handle = nullptr;
      const Shim& s = shim();
      if (s.aoti_torch_empty_strided(1, &size, &stride, s.aoti_torch_dtype_uint8(), self.torch_device,
                                     self.device.index, &handle) != AOTI_TORCH_SUCCESS) {
        return nullptr;
      }
      TensorHandle owner(handle);
      void* data = nullptr;
      if (s.torch_get_mutable_data_ptr(handle, &data) != AOTI_TORCH_SUCCESS || data == nullptr) return nullptr;
      const auto address = reinterpret_cast<std::uintptr_t>(data);
      data = reinterpret_cast<void*>((address + alignment - 1) / alignment * alignment);
      const std::lock_guard lock(self.mutex);
      self.held.emplace_back(data, std::move(owner));
      return data;
    } catch (...) {
      return nullptr;
    }
  }

  static void release(void* user, void* data, std::uint64_t /*bytes*/) {
    auto& self = *static_cast<Scratch*>(user);
    const std::lock_guard lock(self.mutex);
    const auto found =
        std::find_if(self.held.begin(), self.held.end(), [data](const auto& item) { return item.first == data; });
    if (found != self.held.end()) self.held.erase(found);
  }
};

DeviceContext::DeviceContext(mambasdk_device device) : scratch_(std::make_unique<Scratch>()) {
  const Known& known = at(device.type);
  scratch_->device = device;
  scratch_->torch_device = known.torch_type();
  DeviceGuardHandle guard = nullptr;
  check(guard_functions().create(device.index, &guard), "make a device the current one");
  guard_.reset(guard);
  context_.struct_size = sizeof(context_);
  context_.device = device;
  context_.stream = current_stream(known, device.index);
  context_.user = scratch_.get();
  context_.parallel_for = parallel_for;
  context_.allocate = Scratch::allocate;
  context_.release = Scratch::release;
}

DeviceContext::~DeviceContext() = default;

void DeviceContext::DeleteGuard::operator()(DeviceGuardOpaque* guard) const noexcept {
  guard_functions().remove(guard);
}

const mambasdk_context* cpu_context() {
  static const mambasdk_context context = [] {
    mambasdk_context c{};
    c.struct_size = sizeof(c);
    c.device = cpu_device;
    c.parallel_for = parallel_for;
    c.allocate = allocate_on_host;
    c.release = release_on_host;
    return c;
  }();
  return &context;
}

}  // namespace mambasdk::torch_adapter
